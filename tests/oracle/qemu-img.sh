#!/bin/bash
# qemu-img as the jobs have it: LUKS keys are derived in no time, and once more where QEMU's clock
# was too coarse to measure that ("Unable to get accurate CPU usage", before 9.1).
words=('')
for word in "$@"; do
    case ${words[-1]}$word in
    -o*encrypt.key-secret=*) word+=,encrypt.iter-time=10 ;;
    -o*key-secret=*) word+=,iter-time=10 ;;
    esac
    words+=("$word")
done
there=
[ ! -e "${words[-2]}" ] || there=1
for _ in {1..20}; do
    { said=$(/media/tools/qemu-img "${words[@]:1}" 2>&1 1>&3); } 3>&1
    status=$?
    [[ $said = *'accurate CPU usage'* ]] || break
    [ -z "$there" ] || umask 077 # it has deleted the file
done
[ -z "$said" ] || printf '%s\n' "$said" >&2
exit "$status"
