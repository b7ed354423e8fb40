#!/bin/bash
# SCSI pools.  Given: HOST, a scsi_debug host with two targets of one LUN each, DISK, its first, and
# LINKS, a folder below /dev with one link for each disk: of several virsh takes any.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"
P=$LINKS

# defining
t pool-define-as orc-x scsi
t pool-define-as orc-x scsi --adapter-name "$HOST"
t pool-define-as orc-s scsi --adapter-name "$HOST" --target $P
t pool-define-as orc-same scsi --adapter-name "scsi_$HOST" --target $P
t pool-define-as orc-none scsi --adapter-name host99 --target $P
t pool-define-as orc-fc scsi --adapter-wwnn 20000000c9831b4b --adapter-wwpn 10000000c9831b4b --target $P
adapter() { # NAME XML
    xml "$1" <<END
<pool type='scsi'><name>orc-$1</name><source>$2</source><target><path>$P</path></target></pool>
END
}
adapter address "<adapter type='scsi_host'><parentaddr unique_id='1'>
  <address domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/></parentaddr></adapter>"
adapter kind "<adapter type='odd' name='$HOST'/>"
adapter parent "<adapter type='fc_host' parent='scsi_$HOST' managed='yes'
  wwnn='20000000c9831b4c' wwpn='10000000c9831b4c'/>"
t pool-define "$X/address"
t pool-define "$X/kind"
t pool-define "$X/parent"
t pool-dumpxml orc-fc

# not active
t pool-start orc-none
t pool-start orc-fc
t pool-start orc-address
t pool-build orc-s --overwrite
t pool-delete orc-s

# active
t pool-start orc-s
t pool-start orc-s
t pool-autostart orc-s
t pool-list --all --details
t pool-dumpxml orc-s
t vol-list orc-s --details
t vol-info unit:0:0:0 orc-s
t vol-dumpxml unit:0:1:0 orc-s
t vol-key unit:0:0:0 orc-s
t vol-pool "$DISK"

# what its volumes can do and what they can't
head -c 2M /dev/zero | tr '\0' s >"$W/data"
t vol-upload unit:0:0:0 "$W/data" orc-s
t vol-download unit:0:1:0 "$W/got" orc-s --length 2097152
s "cmp '$W/data' '$W/got' && echo same"
t vol-wipe unit:0:0:0 orc-s
s "cmp -n 2097152 /dev/zero '$DISK' && echo zero"
t vol-create-as orc-s new 8M
t vol-clone unit:0:0:0 new orc-s
t vol-resize unit:0:0:0 64M orc-s
t vol-delete unit:0:0:0 orc-s

t pool-destroy orc-s
t pool-destroy orc-s

# in the folder of the kernel's names, and in one that has none
t pool-undefine orc-s
t pool-create-as orc-dev scsi --adapter-name "$HOST" --target /dev
t vol-list orc-dev
# a LUN goes, and the scan brings it back
echo 1 >"/sys/block/${DISK#/dev/}/device/delete"
udevadm settle
t pool-refresh orc-dev
t vol-list orc-dev
t pool-destroy orc-dev
t pool-create-as orc-empty scsi --adapter-name "$HOST" --target "$W"
t pool-list --all
exit 0
