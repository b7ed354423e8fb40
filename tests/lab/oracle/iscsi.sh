#!/bin/bash
# iSCSI pools.  Given: TARGET with two LUNs, CHAPTARGET with one, for which CHAPUSER needs CHAPSECRET;
# both at 127.0.0.1:3260.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"
P=/dev/disk/by-path
LUN1=$P/ip-127.0.0.1:3260-iscsi-$TARGET-lun-1
ME=iqn.2024-01.lab.storagectl:oracle
SECRET=11111111-1111-4111-8111-0000000000cc

# defining
t pool-define-as orc-x iscsi
t pool-define-as orc-x iscsi --source-host 127.0.0.1 --target $P
t pool-define-as orc-i iscsi --source-host 127.0.0.1 --source-dev "$TARGET" --target $P
t pool-define-as orc-same iscsi --source-host 127.0.0.1 --source-dev "$TARGET" --target $P
t pool-dumpxml orc-i
xml full <<END
<pool type='iscsi'>
  <name>orc-full</name>
  <source>
    <host name='127.0.0.1' port='3999'/>
    <device path='$TARGET'/>
    <initiator><iqn name='$ME'/></initiator>
    <auth type='chap' username='$CHAPUSER'><secret uuid='$SECRET'/></auth>
    <vendor name='IET'/><product name='tgtd'/>
  </source>
  <target><path>$P</path></target>
</pool>
END
t pool-define "$X/full"
t pool-dumpxml orc-full
t pool-undefine orc-full

# discovery
t find-storage-pool-sources-as iscsi 127.0.0.1
t find-storage-pool-sources-as iscsi 127.0.0.1 --initiator $ME
t find-storage-pool-sources-as iscsi
t find-storage-pool-sources-as iscsi 127.0.0.1 --port 3999
xml source <<END
<source><host name='127.0.0.1' port='3260'/></source>
END
t find-storage-pool-sources iscsi "$X/source"

# not active

# active
t pool-start orc-i
s "iscsiadm --mode session | sed 's/\[[0-9]*\]/[N]/'"
t pool-start orc-i
t pool-autostart orc-i
t pool-info orc-i
t pool-dumpxml orc-i
t vol-list orc-i --details
t vol-info unit:0:0:1 orc-i
t vol-dumpxml unit:0:0:2 orc-i
t vol-key unit:0:0:1 orc-i
t vol-pool "$LUN1"

# what its volumes can do and what they can't
head -c 2M /dev/zero | tr '\0' s >"$W/data"
t vol-upload unit:0:0:1 "$W/data" orc-i
t vol-download unit:0:0:1 "$W/got" orc-i --length 2097152
s "cmp '$W/data' '$W/got' && echo same"
t vol-wipe unit:0:0:1 orc-i
s "cmp -n 2097152 /dev/zero '$LUN1' && echo zero"
t vol-create-as orc-i new 8M
t vol-resize unit:0:0:1 64M orc-i
t vol-delete unit:0:0:1 orc-i

# a second pool on the same portal: CHAP
t pool-define-as orc-chap iscsi --source-host 127.0.0.1 --source-dev "$CHAPTARGET" --target $P \
    --auth-type chap --auth-username "$CHAPUSER" --secret-usage orc-chap
t pool-start orc-chap
xml secret <<END
<secret ephemeral='no' private='yes'>
  <uuid>$SECRET</uuid>
  <usage type='iscsi'><target>orc-chap</target></usage>
</secret>
END
t secret-define "$X/secret"
t pool-start orc-chap
printf wrong-secret-1 >"$W/secret"
t secret-set-value $SECRET --file "$W/secret" --plain
t pool-start orc-chap
printf %s "$CHAPSECRET" >"$W/secret"
t secret-set-value $SECRET --file "$W/secret" --plain
t pool-start orc-chap
t pool-list --all --details
t pool-destroy orc-chap
t pool-undefine orc-chap
t secret-undefine $SECRET
t pool-destroy orc-i
t pool-destroy orc-i
s "iscsiadm --mode session"
t pool-undefine orc-i

# an initiator of its own
t pool-create-as orc-me iscsi --source-host 127.0.0.1 --source-dev "$TARGET" --target $P \
    --source-initiator $ME
s "cat /sys/class/iscsi_session/*/initiatorname"
t vol-list orc-me
t pool-destroy orc-me

# what isn't there
t pool-create-as orc-none iscsi --source-host 127.0.0.1 --source-dev iqn.2024-01.lab:none --target $P
t pool-create-as orc-path iscsi --source-host 127.0.0.1 --source-dev "$TARGET" --target "$W"
# not here: a portal that nobody listens at, for virsh and its daemon then hang for minutes
t pool-list --all
s "iscsiadm --mode session"
exit 0
