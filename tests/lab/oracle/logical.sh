#!/bin/bash
# Logical pools.  Given: DEV1 and DEV2, empty loop devices of 128 and 64 MiB.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"

# defining
t pool-define-as orc-x logical
t pool-define-as orc-l logical --source-dev "$DEV1" --source-name orcvg
t pool-define-as orc-same logical --source-dev "$DEV1" --source-name orcother
t pool-define-as orc-none logical --source-name orcnone
t pool-define-as orc-gone logical --source-dev /dev/nosuch --source-name orcgone
t pool-dumpxml orc-l

# not active
t pool-delete orc-none
t pool-build orc-gone
t pool-build orc-l
t pool-build orc-l
t find-storage-pool-sources-as logical

# active
t pool-start orc-l
t pool-start orc-l
t pool-autostart orc-l
t vol-create-as orc-l one 8M
t vol-create-as orc-l one 8M
L=no-thin-pool t vol-create-as orc-l less 16M --allocation 4M
L=no-thin-pool t vol-delete less orc-l
lvcreate -q -q -y -n sparse -L 4M --type snapshot --virtualsize 16M orcvg >/dev/null 2>&1
udevadm settle
t pool-refresh orc-l
t vol-create-as orc-l over 8M --backing-vol one
t vol-create-as orc-l snapshot1 8M
xml own <<END
<volume><name>own</name><capacity unit='M'>4</capacity>
  <target><permissions><mode>0640</mode><owner>0</owner><group>6</group></permissions></target></volume>
END
t vol-create orc-l "$X/own"
t pool-list --details
t pool-dumpxml orc-l
t vol-list orc-l --details
t vol-dumpxml one orc-l
t vol-dumpxml over orc-l
t vol-dumpxml sparse orc-l
head -c 1M /dev/zero | tr '\0' s >"$W/data"
t vol-upload one "$W/data" orc-l
t vol-clone one two orc-l
t vol-download two "$W/got" orc-l --length 1048576
s "cmp '$W/data' '$W/got' && echo same"
t vol-resize two 12M orc-l
t vol-wipe two orc-l
s "cmp -n 1048576 /dev/zero /dev/orcvg/two && echo zero"
t vol-wipe sparse orc-l
L=has-snapshot t vol-delete one orc-l
L=has-snapshot t vol-delete over orc-l
L=had-snapshot t vol-delete one orc-l

# another's volumes, one of them in use
lvcreate -q -q -y -n striped.1-a+b -L 8M orcvg >/dev/null 2>&1
lvcreate -q -q -y -n asleep -an -Z n -W n -L 4M orcvg >/dev/null 2>&1
udevadm settle
t pool-refresh orc-l
sleep 1000 3</dev/orcvg/own &
holder=$!
L=in-use t vol-delete own orc-l
L=in-use t pool-destroy orc-l
kill $holder
wait $holder
t pool-destroy orc-l
t pool-destroy orc-l
t pool-start orc-l
t vol-list orc-l
t pool-destroy orc-l
t pool-delete orc-l
t pool-start orc-l
t pool-undefine orc-l

# two devices, of which the second is not to be had
blkdiscard "$DEV1"
mkfs.ext4 -q "$DEV2"
xml two <<END
<pool type='logical'><name>orc-two</name>
  <source><device path='$DEV1'/><device path='$DEV2'/><name>orctwo</name></source></pool>
END
t pool-create "$X/two" --build
s "pvs --noheadings -o pv_name"
t pool-create "$X/two" --build --overwrite
t vol-create-as orc-two wide 160M
t vol-dumpxml wide orc-two
t pool-destroy orc-two
s "vgremove -q -q -f orctwo; pvremove -q -q '$DEV1' '$DEV2'"
t pool-list --all
exit 0
