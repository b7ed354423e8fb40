#!/bin/bash
# Nightly backup, from cron: all volumes of all pools that run, and the definitions of all pools.
#
#   nightly-backup.sh DESTINATION [POOL...]
#
# DESTINATION/DAY/POOL.xml           the pool's definition, without its sizes
# DESTINATION/DAY/POOL/VOLUME.xml    the volume's
# DESTINATION/DAY/POOL/VOLUME.gz     its contents
# DESTINATION/DAY/SHA256SUMS         of the contents, before gzip
#
# KEEP days are kept. Exit status: 0 all is saved, 1 something is not, 2 nothing was tried.
set -u
umask 077
day=${DAY:-$(date +%F)}
keep=${KEEP:-7}
failed=0

say() { printf '%s: %s\n' "${0##*/}" "$*"; }
problem() {
    say "$@" >&2
    failed=1
}

[ $# -ge 1 ] || {
    echo "usage: ${0##*/} DESTINATION [POOL...]" >&2
    exit 2
}
destination=$1
shift
if ! [ -w "$destination/." ]; then
    say "cannot write to $destination" >&2
    exit 2
fi
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046  # names, one a line
    set -- $(virsh pool-list --all --name)
fi
to=$destination/$day
mkdir -p "$to" || exit 2
: >"$to/SHA256SUMS"

# one volume: its definition without what changes by itself, then its contents
save_volume() { # POOL VOLUME
    local pool=$1 volume=$2 file=$to/$1/$2 type size got
    type=$(virsh vol-info "$volume" --pool "$pool" | awk '/^Type:/ { print $2 }')
    if [ "$type" != file ] && [ "$type" != block ]; then
        say "$pool/$volume: a $type, left out"
        return 0
    fi
    virsh vol-dumpxml "$volume" --pool "$pool" | sed '/<timestamps>/,/<\/timestamps>/d' >"$file.xml"
    [ "${PIPESTATUS[0]}" -eq 0 ] || return 1
    virsh vol-download --pool "$pool" --sparse "$volume" "$file" >/dev/null || return 1
    size=$(virsh vol-info --bytes --physical --pool "$pool" "$volume" | awk '/^Physical:/ { print $2 }')
    got=$(stat -c %s "$file")
    [ "$size" = "$got" ] || {
        say "$pool/$volume: $got bytes read of $size" >&2
        return 1
    }
    (cd "$to" && sha256sum "$pool/$volume") >>"$to/SHA256SUMS"
    gzip -n -f "$file"
    say "$pool/$volume: $got bytes"
}

volumes=0
for pool in "$@"; do
    virsh pool-dumpxml --inactive "$pool" | sed '/<\(capacity\|allocation\|available\) /d' >"$to/$pool.xml"
    if [ "${PIPESTATUS[0]}" -ne 0 ]; then
        problem "$pool: no such pool"
        rm -f "$to/$pool.xml"
        continue
    fi
    state=$(virsh pool-info "$pool" | awk -F ': *' '$1 == "State" { print $2 }')
    if [ "$state" != running ]; then
        say "$pool: is $state, only its definition is saved"
        continue
    fi
    virsh pool-refresh "$pool" >/dev/null || {
        problem "$pool: cannot be refreshed"
        continue
    }
    mkdir -p "$to/$pool"
    while read -r volume _; do
        volumes=$((volumes + 1))
        save_volume "$pool" "$volume" </dev/null || problem "$pool/$volume: NOT SAVED"
    done < <(virsh vol-list "$pool" | awk 'NR > 2 && NF')
done

# the oldest days go; a day is a folder with sums in it
find "$destination" -mindepth 2 -maxdepth 2 -name SHA256SUMS -printf '%h\n' | sort -r |
    tail -n +$((keep + 1)) | while read -r old; do
    say "removing ${old##*/}"
    rm -rf "$old"
done
say "$volumes volumes, $(wc -l <"$to/SHA256SUMS") saved"
exit $failed
