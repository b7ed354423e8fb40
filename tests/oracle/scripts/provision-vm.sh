#!/bin/bash
# The disks of a new virtual machine: a clone of a base image, resized, and a seed for cloud-init.
#
#   provision-vm.sh [-p POOL] [-t] BASE NAME SIZE
#
# SIZE ends in M or G. -t makes a thin overlay on the base instead of a full clone.
# What a failure leaves is removed.
set -u -o pipefail
pool=default
thin=no
while getopts p:t option; do
    case $option in
    p) pool=$OPTARG ;;
    t) thin=yes ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 3 ] || {
    echo "usage: ${0##*/} [-p POOL] [-t] BASE NAME SIZE" >&2
    exit 64
}
base=$1 name=$2 size=$3
disk=$name.qcow2
seed=$name-seed.img

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

bytes_of() { # Capacity, Available ... of a pool or a volume
    awk -v label="$1:" '$1 == label { print $2 }'
}

# -- before anything is made
virsh pool-uuid "$pool" >/dev/null 2>&1 || die "there is no pool $pool"
[ "$(virsh -q pool-list --all | awk -v p="$pool" '$1 == p { print $2 }')" = active ] || {
    echo "starting $pool"
    virsh pool-start "$pool" >/dev/null || die "$pool does not start"
}
virsh pool-refresh "$pool" >/dev/null || die "$pool cannot be read"
virsh vol-info "$base" "$pool" >/dev/null || die "there is no base image $base in $pool"
if virsh vol-path --pool "$pool" "$disk" >/dev/null 2>&1; then
    die "$disk is there already"
fi

case $size in
*G) wanted=$((${size%G} << 30)) ;;
*M) wanted=$((${size%M} << 20)) ;;
*) die "$size: a size is a number and M or G" ;;
esac
capacity=$(virsh vol-info --bytes "$base" "$pool" | bytes_of Capacity) || die "no size of $base"
format=$(virsh vol-dumpxml "$base" "$pool" --xpath //target/format/@type | cut -d '"' -f 2)
[ "$wanted" -ge "$capacity" ] || die "$base has $capacity bytes, more than $size"
available=$(virsh pool-info "$pool" --bytes | bytes_of Available)
allocated=$(virsh vol-info --bytes --vol "$base" --pool "$pool" | bytes_of Allocation)
[ "$available" -gt $((allocated + (16 << 20))) ] || die "$pool has only $available bytes left"

# -- from here on a failure takes away what was made
made=()
undo() {
    local volume
    for volume in "${made[@]}"; do
        virsh vol-delete --pool "$pool" "$volume" >/dev/null && echo "removed $volume" >&2
    done
}
finished=no
work=$(mktemp -d)
trap '[ $finished = yes ] || undo; rm -rf "$work"' EXIT

if [ $thin = yes ]; then
    virsh vol-create-as "$pool" "$disk" "$capacity" --format qcow2 \
        --allocation 0 --backing-vol "$base" --backing-vol-format "$format" || die "no overlay"
elif [ "$format" = qcow2 ]; then
    virsh vol-clone --pool "$pool" "$base" "$disk" || die "no clone"
else
    cat >"$work/disk.xml" <<EOF
<volume>
  <name>$disk</name>
  <capacity>$capacity</capacity>
  <target><format type='qcow2'/><compat>1.1</compat><permissions><mode>0600</mode></permissions></target>
</volume>
EOF
    virsh vol-create-from "$pool" "$work/disk.xml" "$base" --inputpool "$pool" || die "no copy"
fi
made+=("$disk")
if [ "$wanted" -gt "$capacity" ]; then
    virsh vol-resize "$disk" "$size" --pool "$pool" || die "$disk keeps its size"
fi

{
    printf '#cloud-config\nhostname: %s\n' "$name"
    if [ -n "${KEY_FILE:-}" ]; then
        printf 'ssh_authorized_keys: [%s]\n' "$(cat "$KEY_FILE")" || exit 1
    fi
} >"$work/user-data"
truncate -s 64K "$work/user-data"
virsh vol-create-as "$pool" "$seed" 64K --format raw || die "no seed"
made+=("$seed")
virsh vol-upload "$seed" "${SEED_FILE:-$work/user-data}" "$pool" || die "the seed stays empty"

# -- several questions to one process; its prompts are left out
sleep 0.3
virsh <<EOF | sed '/^[a-z]* # /d; 1,5d' || die "no look at the result"
pool-refresh $pool
vol-info $disk --pool $pool
vol-dumpxml $disk $pool --xpath //backingStore/path
vol-list $pool --details
EOF
finished=yes
echo "disk: $(virsh vol-path "$disk" --pool "$pool")"
echo "seed: $(virsh vol-path "$seed" --pool "$pool")"
key=$(virsh vol-key "$disk" "$pool")
echo "pool: $(virsh vol-pool "$key")"
