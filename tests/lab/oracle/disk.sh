#!/bin/bash
# Disk pools on a SCSI disk.  Given: DISK, an empty one of 256 MiB.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"
D=${DISK#/dev/}

t pool-define-as orc-x disk --target /dev
t pool-define-as orc-g disk --source-dev "$DISK" --source-format gpt --target /dev
t pool-define-as orc-same disk --source-dev "$DISK" --source-format dos --target /dev
t pool-define-as orc-gone disk --source-dev /dev/nosuch --source-format gpt --target /dev
t pool-start orc-gone
t pool-build orc-gone
t pool-start orc-g
t pool-build orc-g
t pool-build orc-g
t pool-start orc-g
t pool-start orc-g
t pool-dumpxml orc-g
t vol-create-as orc-g "${D}1" 16M
t vol-create-as orc-g wrong 16M
t vol-create-as orc-g "${D}2" 32M --format linux-swap
t vol-list orc-g --details
t vol-info "${D}1" orc-g
t vol-dumpxml "${D}2" orc-g
t vol-pool "${DISK}1"
head -c 1M /dev/zero | tr '\0' s >"$W/data"
t vol-upload "${D}1" "$W/data" orc-g
t vol-clone "${D}1" "${D}3" orc-g
s "cmp -n 1048576 '$W/data' ${DISK}3 && echo same"
t vol-resize "${D}1" 20M orc-g
t vol-wipe "${D}1" orc-g
t vol-delete "${D}2" orc-g
t pool-delete orc-g
t pool-destroy orc-g
t pool-delete orc-g
t pool-start orc-g
t pool-undefine orc-g

# dos: four primary partitions, one of them extended
t pool-create-as orc-m disk --source-dev "$DISK" --source-format dos --target /dev --overwrite
t vol-create-as orc-m "${D}1" 16M --format linux
t vol-create-as orc-m "${D}2" 64M --format extended
t vol-create-as orc-m "${D}3" 16M --format fat32
t vol-create-as orc-m "${D}4" 16M
t vol-create-as orc-m "${D}5" 16M
t vol-list orc-m --details
t vol-wipe "${D}2" orc-m
t vol-delete "${D}5" orc-m
t vol-delete "${D}2" orc-m
# in use
mkfs.ext4 -q -F "${DISK}1" && mkdir "$W/mnt" && mount "${DISK}1" "$W/mnt"
t vol-delete "${D}1" orc-m
umount "$W/mnt"
t vol-list orc-m
t pool-destroy orc-m

# the other tables
for format in dvh mac sun; do
    t pool-create-as orc-o disk --source-dev "$DISK" --source-format $format --target /dev --overwrite
    t pool-dumpxml orc-o
    t pool-destroy orc-o
done
t pool-list --all
exit 0
