#!/bin/bash
# What virsh answers from its daemon's memory, where storagectl asks the host.  There is no
# pool-refresh before these, unlike in main-job.sh; a label names an artefact.  At the end: what becomes of lost output.
#
# Given by the harness: what record.sh needs, and LOOPFS LOOPDISK1 LOOPDISK2.

: "${LOOPFS:?}" "${LOOPDISK1:?}" "${LOOPDISK2:?}"
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/record.sh"
D1=${LOOPDISK1#/dev/}
D2=${LOOPDISK2#/dev/}

t pool-create-as orc-d dir --target "$W/d" --build

# ------------------------------------------------------------------ volumes just made
t vol-create-as orc-d new.qcow2 16M --format qcow2 --allocation 0
t vol-info new.qcow2 orc-d --bytes
L=new-volume t vol-dumpxml new.qcow2 orc-d
t pool-refresh orc-d
t vol-info new.qcow2 orc-d --bytes
t vol-dumpxml new.qcow2 orc-d
t vol-create-as orc-d over.qcow2 16M --format qcow2 --backing-vol new.qcow2 \
    --backing-vol-format qcow2 --allocation 0
L=new-volume t vol-dumpxml over.qcow2 orc-d
t vol-clone new.qcow2 clone.qcow2 orc-d
t vol-dumpxml clone.qcow2 orc-d
t vol-create-as orc-d half.raw 8M --allocation 4M
t vol-info half.raw orc-d --bytes

# ------------------------------------------------------------------ sizes
t vol-create-as orc-d grow.raw 1M --allocation 0
t pool-refresh orc-d
truncate -s 3M d/grow.raw
head -c 1M /dev/urandom | dd of=d/grow.raw conv=notrunc,fsync status=none
t vol-info grow.raw orc-d --bytes
t vol-list orc-d --details
t vol-dumpxml grow.raw orc-d --xpath '//capacity | //allocation | //physical'
L=stale-size t pool-info orc-d --bytes
qemu-img resize -q -f qcow2 d/new.qcow2 32M
t vol-info new.qcow2 orc-d
t vol-resize grow.raw 2M orc-d
s 'stat -c %s d/grow.raw'
chmod 0640 d/grow.raw
t vol-dumpxml grow.raw orc-d --xpath //target/permissions/mode
chmod 0750 d
L=stale-mode t pool-dumpxml orc-d --xpath //target/permissions/mode
t pool-refresh orc-d
t vol-info grow.raw orc-d --bytes
t vol-info new.qcow2 orc-d

# ------------------------------------------------------------------ files
truncate -s 1M d/unseen.raw
L=unseen t vol-list orc-d
L=unseen t vol-info unseen.raw orc-d
L=unseen t vol-path "$W/d/unseen.raw"
L=unseen t vol-delete unseen.raw orc-d
L=unseen s 'ls d'
truncate -s 1M d/unseen.raw
L=unseen t vol-clone unseen.raw copy.raw orc-d
L=unseen s 'ls d'
t pool-refresh orc-d
rm d/half.raw
L=vanished t vol-list orc-d
L=vanished t vol-path half.raw orc-d
mv d/grow.raw d/moved.raw
L=vanished t vol-key "$W/d/grow.raw"
L=unseen t vol-key "$W/d/moved.raw"

# ------------------------------------------------------------------ pools that were stopped
xml stopped.xml <<EOF
<pool type='dir'>
  <name>orc-s</name>
  <uuid>11111111-1111-4111-8111-000000000001</uuid>
  <target><path>$W/s</path></target>
</pool>
EOF
mkdir s
t pool-define "$X/stopped.xml"
t pool-dumpxml orc-s
t pool-start orc-s
t pool-destroy orc-s
L=stopped t pool-dumpxml orc-s
L=stopped t pool-dumpxml orc-s --inactive
t pool-undefine orc-s

# ------------------------------------------------------------------ free extents
t pool-define-as orc-g disk --source-dev "$LOOPDISK1" --source-format gpt --target /dev
t pool-build orc-g --overwrite
t pool-start orc-g
t vol-create-as orc-g "${D1}p1" 64M
L=alignment t pool-dumpxml orc-g --xpath //freeExtent
t vol-create-as orc-g wrong 32M
L=free-extents t pool-dumpxml orc-g --xpath //freeExtent
L=free-extents t vol-create-as orc-g "${D1}p2" 150M
t pool-refresh orc-g
L=free-extents t vol-list orc-g --details
L=free-extents t pool-dumpxml orc-g --xpath //freeExtent

# ------------------------------------------------------------------ names that end in a digit
t pool-define-as orc-m disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev
t pool-build orc-m --overwrite
t pool-start orc-m
t vol-create-as orc-m "${D2}p1" 16M
L=disk-vol-delete t vol-delete "${D2}p1" orc-m
L=disk-vol-delete s 'parted -s -m "$LOOPDISK2" print | grep -c ^1:'

# ------------------------------------------------------------------ output that nobody gets
s '$V pool-list | { exec <&-; sleep 1; }; echo "${PIPESTATUS[0]}"'
L=full s '$V pool-list >/dev/full; echo $?'
L=full s 'set -e; list=$($V pool-list --name >/dev/full); echo "goes on"'
exit 0
