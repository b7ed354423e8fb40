# Sourced by the oracle's scripts (main-job.sh, tests/lab/oracle/*.sh).
#
# Given by the harness (oracle.py):
#   V     the program, split into words ("virsh", "storagectl --root /x")
#   WORK  an empty scratch directory, on a file system of its own
#   OUT   an existing directory: record N is N.argv N.status N.stdout N.stderr N.meta
#
# t COMMAND...      one storage command, recorded; L=label, IN=text for its stdin
# q KEYS COMMAND... the same on a terminal, answering each question with the next of KEYS
# s 'shell text'    something to see on the host afterwards, recorded too
# xml NAME <<text   a file $X/NAME
# Everything else is set-up and isn't recorded.
# shellcheck shell=bash

: "${V:=virsh}" "${WORK:?}" "${OUT:?}"
export LC_ALL=C.UTF-8
unset VISUAL EDITOR LIBVIRT_DEFAULT_URI VIRSH_DEFAULT_CONNECT_URI
umask 022
HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
W=$WORK
X=$W/xml
N=0

record() { # KIND STDIN-TEXT WORD...; argv is what is shown, the rest is what is run
    local kind=$1 input=$2 base status
    shift 2
    N=$((N + 1))
    base=$OUT/$N
    printf '%s\0' "$@" >"$base.argv"
    printf '%s %s %s\n' "$kind" "${BASH_LINENO[1]}" "${L:--}" >"$base.meta"
    if [ "$kind" = command ]; then
        # shellcheck disable=SC2086  # V is words
        printf '%s' "$input" | timeout 60 $V "$@" >"$base.stdout" 2>"$base.stderr"
    elif [ "$kind" = asked ]; then
        # shellcheck disable=SC2086
        printf '' | timeout 60 python3 "$HERE/terminal.py" "$input" $V "$@" \
            >"$base.stdout" 2>"$base.stderr"
    else
        printf '%s' "$input" | timeout 60 bash -c "$1" >"$base.stdout" 2>"$base.stderr"
    fi
    status=${PIPESTATUS[1]}
    echo "$status" >"$base.status"
    return "$status"
}
t() { record command "${IN-}" "$@"; }
q() { record asked "$@"; }
s() { record state "" "$@"; }
# virsh returns from vol-upload before libvirtd has written and refreshed everything
settle() { sleep 0.3; }
xml() { cat >"$X/$1"; }

cd "$W" || exit 1
mkdir "$X"
