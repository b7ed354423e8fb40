#!/bin/bash
# SCSI pools.  Given: HOST, a scsi_debug host with two targets of one LUN each, and its DISK (the
# first), ADDRESS, of that host's parent where it has a PCI address.
. "$(dirname "$0")/../../oracle/record.sh"
P=/dev/disk/by-id
DISK=/dev/$DISK

# defining
t pool-define-as orc-x scsi
t pool-define-as orc-x scsi --target $P
t pool-define-as orc-x scsi --adapter-name "$HOST"
t pool-define-as orc-s scsi --adapter-name "$HOST" --target $P
t pool-define-as orc-same scsi --adapter-name "scsi_$HOST" --target $P
t pool-define-as orc-none scsi --adapter-name host99 --target $P
t pool-define-as orc-odd scsi --adapter-name odd --target $P
t pool-define-as orc-x scsi --adapter-name "$HOST" --adapter-wwnn 20000000c9831b4b --target $P
t pool-define-as orc-fc scsi --adapter-wwnn 20000000c9831b4b --adapter-wwpn 10000000c9831b4b --target $P
t pool-define-as orc-x scsi --adapter-wwnn 20000000c9831b4b --target $P
t pool-dumpxml orc-s
t pool-dumpxml orc-fc
adapter() { # NAME XML
    xml "$1" <<END
<pool type='scsi'><name>orc-$1</name><source>$2</source><target><path>$P</path></target></pool>
END
}
adapter parent "<adapter type='scsi_host'><parentaddr unique_id='1'>
  <address domain='0x0000' bus='0x00' slot='0x1f' addr='0x2'/></parentaddr></adapter>"
adapter address "<adapter type='scsi_host'><parentaddr unique_id='1'>
  <address domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/></parentaddr></adapter>"
adapter kind "<adapter type='odd' name='$HOST'/>"
adapter fcparent "<adapter type='fc_host' parent='scsi_$HOST' managed='yes'
  wwnn='20000000c9831b4c' wwpn='10000000c9831b4c'/>"
adapter wwn "<adapter type='fc_host' wwnn='2000' wwpn='1000'/>"
t pool-define "$X/parent"
t pool-define "$X/address"
t pool-dumpxml orc-address
t pool-define "$X/kind"
t pool-define "$X/fcparent"
t pool-dumpxml orc-fcparent
t pool-define "$X/wwn"

# not active
t pool-start orc-none
t pool-start orc-odd
t pool-start orc-fc
t pool-start orc-fcparent
t pool-start orc-address
for pool in none odd fc fcparent address; do $V pool-undefine orc-$pool >/dev/null 2>&1; done
t pool-list --all
t pool-build orc-s
t pool-build orc-s --overwrite
t pool-delete orc-s
t pool-destroy orc-s
t vol-list orc-s

# active
t pool-start orc-s
t pool-start orc-s
t pool-list --details
t pool-info orc-s
t pool-info orc-s --bytes
t pool-dumpxml orc-s
t pool-refresh orc-s
t pool-autostart orc-s
t vol-list orc-s
t vol-list orc-s --details
t vol-info unit:0:0:0 orc-s
t vol-info unit:0:9:0 orc-s
t vol-dumpxml unit:0:1:0 orc-s
t vol-path unit:0:0:0 orc-s
t vol-key unit:0:0:0 orc-s
KEY=$($V vol-key unit:0:0:0 orc-s)
t vol-path "$KEY"
t vol-pool "$DISK"

# what its volumes can do and what they can't
head -c 2M /dev/zero | tr '\0' s >"$W/data"
t vol-upload unit:0:0:0 "$W/data" orc-s
s "cmp -n 2097152 '$W/data' '$DISK' && echo same"
t vol-download unit:0:0:0 "$W/got" orc-s --length 2097152
s "cmp '$W/data' '$W/got' && echo same"
t vol-wipe unit:0:0:0 orc-s
s "cmp -n 2097152 /dev/zero '$DISK' && echo zero"
t vol-create-as orc-s new 8M
xml vol <<END
<volume><name>new</name><capacity>1048576</capacity></volume>
END
t vol-create-from orc-s "$X/vol" unit:0:0:0 --inputpool orc-s
t vol-clone unit:0:0:0 new orc-s
t vol-resize unit:0:0:0 64M orc-s
t vol-delete unit:0:0:0 orc-s

# a LUN goes and comes back
echo 1 >"/sys/block/${DISK#/dev/}/device/delete"
udevadm settle
t vol-info unit:0:0:0 orc-s
t pool-refresh orc-s
t vol-list orc-s --details

t pool-delete orc-s
t pool-undefine orc-s
t pool-destroy orc-s
t pool-destroy orc-s
t pool-undefine orc-s

# other targets
t pool-create-as orc-dev scsi --adapter-name "$HOST" --target /dev
t vol-list orc-dev
t pool-destroy orc-dev
t pool-create-as orc-path scsi --adapter-name "$HOST" --target /dev/disk/by-path
t vol-list orc-path
t pool-destroy orc-path
t pool-create-as orc-empty scsi --adapter-name "$HOST" --target "$W"
t pool-create-as orc-gone scsi --adapter-name "$HOST" --target "$W/gone"
t find-storage-pool-sources-as scsi
t pool-list --all
exit 0
