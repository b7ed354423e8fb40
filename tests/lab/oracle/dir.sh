#!/bin/bash
# Directory pools: the short form of tests/oracle/main-job.sh, on the guest's kernel and tools.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"

t pool-define-as orc-x dir
t pool-define-as orc-d dir --target "$W/d"
t pool-define-as orc-same dir --target "$W/d"
t pool-build orc-d --overwrite
t pool-build orc-d
t pool-start orc-d
t pool-start orc-d
t pool-list --details
t pool-dumpxml orc-d
t pool-autostart orc-d
t vol-create-as orc-d a.raw 4M
t vol-create-as orc-d a.raw 4M
t vol-create-as orc-d b.qcow2 8M --format qcow2 --backing-vol a.raw --backing-vol-format raw
xml vol <<END
<volume><name>own</name><capacity unit='M'>2</capacity><allocation>0</allocation>
  <target><permissions><mode>0640</mode><owner>1000</owner><group>1000</group></permissions></target></volume>
END
t vol-create orc-d "$X/vol"
t vol-create-from orc-d "$X/vol" a.raw --inputpool orc-d
t pool-refresh orc-d
t vol-list orc-d --details
t vol-info b.qcow2 orc-d
t vol-dumpxml b.qcow2 orc-d
t vol-clone b.qcow2 c.qcow2 orc-d
t vol-resize a.raw 6M orc-d
head -c 1M /dev/zero | tr '\0' s >"$W/data"
t vol-upload a.raw "$W/data" orc-d
settle
t vol-download a.raw "$W/got" orc-d --length 1048576
s "cmp '$W/data' '$W/got' && echo same"
t vol-wipe a.raw orc-d
t vol-delete c.qcow2 orc-d
# a mount point and what a file manager of the guest makes
mkdir "$W/d/sub" && mount -t tmpfs -o size=8M tmpfs "$W/d/sub"
mkfifo "$W/d/pipe"
ln -s nowhere "$W/d/dangling"
t pool-refresh orc-d
t vol-list orc-d
t vol-delete sub orc-d
umount "$W/d/sub"
t vol-delete sub orc-d
t pool-delete orc-d
t pool-destroy orc-d
t pool-destroy orc-d
t pool-delete orc-d
t pool-undefine orc-d
t find-storage-pool-sources-as dir
exit 0
