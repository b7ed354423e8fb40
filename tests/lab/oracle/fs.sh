#!/bin/bash
# File system pools, in formats that other kernels may lack.  Given: DEV, an empty loop device of
# 320 MiB, and ISO, one with an iso9660 file system.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"
M=$W/mnt
options() { s "findmnt -n -o SOURCE,FSTYPE '$1'; findmnt -n -o OPTIONS '$1' | tr , '\n' | grep ^no | sort"; }

t pool-define-as orc-x fs --target "$M"
t pool-define-as orc-x fs --source-dev "$DEV" --source-format nosuch --target "$M"
t pool-define-as orc-f fs --source-dev "$DEV" --source-format vfat --target "$M"
t pool-define-as orc-same fs --source-dev "$DEV" --target "$W/other"
t pool-define-as orc-gone fs --source-dev /dev/nosuch --source-format udf --target "$W/gone"
t pool-build orc-gone --overwrite
t pool-start orc-gone
t pool-build orc-f
t pool-start orc-f

# vfat has neither owners nor modes
t pool-build orc-f --overwrite
t pool-start orc-f
options "$M"
t pool-start orc-f
t pool-dumpxml orc-f
t vol-create-as orc-f a.raw 4M --allocation 0
t vol-create-as orc-f b.qcow2 8M --format qcow2
t vol-list orc-f --details
t vol-dumpxml a.raw orc-f
t vol-clone a.raw c.raw orc-f
t vol-wipe a.raw orc-f
t vol-delete c.raw orc-f
t pool-destroy orc-f
t pool-destroy orc-f
t pool-build orc-f --no-overwrite
t pool-delete orc-f
t pool-undefine orc-f

for format in gfs2 ocfs2; do
    wipefs -q -a "$DEV"
    dd if=/dev/zero of="$DEV" bs=1M count=8 conv=fsync status=none
    t pool-define-as orc-f fs --source-dev "$DEV" --source-format $format --target "$M"
    t pool-build orc-f --no-overwrite
    t pool-start orc-f
    $V pool-destroy orc-f >/dev/null 2>&1
    $V pool-undefine orc-f >/dev/null 2>&1
done

# can only be read
t pool-create-as orc-iso fs --source-dev "$ISO" --source-format iso9660 --target "$W/iso" --build
options "$W/iso"
t vol-list orc-iso --details
t vol-create-as orc-iso new 1M
t vol-delete readme orc-iso
t vol-wipe readme orc-iso
t pool-destroy orc-iso
t pool-list --all
exit 0
