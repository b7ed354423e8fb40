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
t pool-start orc-g
t pool-build orc-g
t pool-build orc-g
t pool-start orc-g
t pool-start orc-g
t pool-dumpxml orc-g
t vol-create-as orc-g "${D}1" 16M
t vol-create-as orc-g wrong 16M
t vol-list orc-g --details
t vol-info "${D}1" orc-g
t vol-dumpxml "${D}1" orc-g
t vol-pool "${DISK}1"
head -c 1M /dev/zero | tr '\0' s >"$W/data"
t vol-upload "${D}1" "$W/data" orc-g
s "cmp -n 1048576 '$W/data' ${DISK}1 && echo same"
t vol-resize "${D}1" 20M orc-g
t vol-wipe "${D}1" orc-g
t vol-delete "${D}1" orc-g
t pool-delete orc-g
t pool-destroy orc-g
t pool-delete orc-g
t pool-start orc-g
t pool-undefine orc-g

# dos: an extended partition and a logical one in it; a partition in use
t pool-create-as orc-m disk --source-dev "$DISK" --source-format dos --target /dev
t pool-create-as orc-m disk --source-dev "$DISK" --source-format dos --target /dev --overwrite
t vol-create-as orc-m "${D}1" 64M --format extended
t vol-create-as orc-m "${D}2" 16M --format linux
t vol-create-as orc-m "${D}3" 16M --format extended
t vol-list orc-m --details
t vol-wipe "${D}1" orc-m
mkfs.ext4 -q -F "${DISK}2" && mkdir "$W/mnt" && mount "${DISK}2" "$W/mnt"
t vol-delete "${D}2" orc-m
umount "$W/mnt"
t vol-list orc-m
t pool-destroy orc-m
t pool-list --all
exit 0
