#!/bin/bash
# Multipath pools.  Given: MAP, a map's name, and DM, its dm-N; TWIN, a map that isn't of multipath.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/../../oracle/record.sh"
P=/dev/mapper

# defining
t pool-define-as orc-m mpath
t pool-define-as orc-m mpath --target $P
t pool-define-as orc-same mpath --target $P
t pool-dumpxml orc-m
xml odd <<END
<pool type='mpath'><name>orc-m</name><source><device path='/dev/sda'/><format type='odd'/></source>
  <target><path>nowhere</path></target></pool>
END
t find-storage-pool-sources-as mpath

# not active, though libvirt asks only for the folder
t pool-build orc-m --overwrite
t pool-delete orc-m
t vol-list orc-m

# active
t pool-start orc-m
t pool-start orc-m
t pool-list --details
t pool-info orc-m
t pool-dumpxml orc-m
t pool-autostart orc-m
t vol-list orc-m --details
t vol-info "$DM" orc-m
t vol-info "$MAP" orc-m
t vol-dumpxml "$DM" orc-m
t vol-key "$DM" orc-m
t vol-pool "$P/$MAP"

# what its volumes can do and what they can't
head -c 2M /dev/zero | tr '\0' s >"$W/data"
t vol-upload "$DM" "$W/data" orc-m
s "cmp -n 2097152 '$W/data' '$P/$MAP' && echo same"
t vol-download "$DM" "$W/got" orc-m --length 2097152
s "cmp '$W/data' '$W/got' && echo same"
t vol-wipe "$DM" orc-m
s "cmp -n 2097152 /dev/zero '$P/$MAP' && echo zero"
t vol-create-as orc-m new 8M
t vol-clone "$DM" new orc-m
t vol-resize "$DM" 128M orc-m
t vol-delete "$DM" orc-m

t pool-undefine orc-m

# the map goes
multipath -f "$MAP"
udevadm settle
L=map-gone t vol-info "$DM" orc-m
t pool-refresh orc-m
t vol-list orc-m --details
t vol-info "$DM" orc-m

t pool-destroy orc-m
t pool-destroy orc-m
t pool-undefine orc-m
t pool-create-as orc-t mpath --target $P
t pool-destroy orc-t
t pool-list --all
exit 0
