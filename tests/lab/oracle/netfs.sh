#!/bin/bash
# NFS pools.  Given: EXPORT and OTHER, folders that 127.0.0.1 exports.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"
M=$W/mnt

# defining
t pool-define-as orc-x netfs --source-host 127.0.0.1 --source-path "$EXPORT"
t pool-define-as orc-x netfs --source-host 127.0.0.1 --source-path "$EXPORT" --source-format ext4 --target "$M"
t pool-define-as orc-n netfs --source-host 127.0.0.1 --source-path "$EXPORT" --target "$M"
t pool-define-as orc-same netfs --source-host 127.0.0.1 --source-path "$EXPORT" --target "$W/b"
t pool-dumpxml orc-n
pool() { # NAME SOURCE [MORE]
    xml "$1" <<END
<pool type='netfs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>
  <name>orc-$1</name><source>$2</source><target><path>$W/$1</path></target>$3</pool>
END
}
HOST="<host name='127.0.0.1'/>"
pool v3 "$HOST<dir path='$OTHER'/><format type='nfs'/><protocol ver='3'/>" \
    "<fs:mount_opts><fs:option name='sync'/><fs:option name='noatime'/></fs:mount_opts>"
pool cifs "$HOST<dir path='share'/><format type='cifs'/>"
pool gluster "$HOST<dir path='vol'/><format type='glusterfs'/>"
t pool-define "$X/v3"
t pool-dumpxml orc-v3
t pool-define "$X/cifs"
t pool-define "$X/gluster"

# discovery
t find-storage-pool-sources-as netfs 127.0.0.1
t find-storage-pool-sources-as netfs
xml source <<END
<source><host name='127.0.0.1'/><format type='nfs'/></source>
END
t find-storage-pool-sources netfs "$X/source"

# not active
L=no-folder t pool-start orc-n
t pool-build orc-n
t pool-destroy orc-n

# active
t pool-start orc-n
s "findmnt -n -o SOURCE,FSTYPE '$M'; findmnt -n -o OPTIONS '$M' | tr , '\n' | grep -E '^(no|vers)' | sort"
t pool-start orc-n
t pool-list --details
t pool-dumpxml orc-n
t pool-autostart orc-n
t vol-create-as orc-n a.raw 4M
t vol-create-as orc-n b.qcow2 8M --format qcow2
xml vol <<END
<volume><name>own</name><capacity>1048576</capacity><allocation>0</allocation>
  <target><permissions><mode>0640</mode><owner>1000</owner><group>1000</group></permissions></target></volume>
END
t vol-create orc-n "$X/vol"
s "stat -c '%a %u %g %n' '$EXPORT'/own"
t vol-list orc-n --details
t vol-info a.raw orc-n
t vol-dumpxml a.raw orc-n
t vol-clone a.raw c.raw orc-n
head -c 1M /dev/zero | tr '\0' s >"$W/data"
t vol-upload a.raw "$W/data" orc-n
settle
t vol-download a.raw "$W/got" orc-n --length 1048576
s "cmp '$W/data' '$W/got' && echo same"
t vol-wipe a.raw orc-n
t vol-delete c.raw orc-n

# version 3, with options
t pool-start orc-v3 --build
s "findmnt -n -o SOURCE,FSTYPE '$W/v3'; findmnt -n -o OPTIONS '$W/v3' | tr , '\n' | grep -E '^(no|vers|sync)' | sort"
t pool-destroy orc-v3

t pool-delete orc-n
t pool-destroy orc-n
t pool-destroy orc-n
t pool-delete orc-n
s "ls -d '$M'"
t pool-undefine orc-n

# what isn't there
t pool-start orc-cifs --build
t pool-start orc-gluster --build
t pool-create-as orc-none netfs --source-host 127.0.0.1 --source-path /nosuch --target "$W/none" --build
s "findmnt -n -t nfs,nfs4"
t pool-list --all
exit 0
