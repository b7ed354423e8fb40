#!/bin/bash
# Pools of a real libvirtd, taken over.  test_import.py calls it under unshare --mount --pid --net
# --fork.  Given: V, how storagectl is called, and W, a folder for targets.
set -e
mount --make-rprivate /
mount -t proc proc /proc
for dir in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p "$dir"
    mount -t tmpfs oracle "$dir"
done
libvirtd -d -p /run/libvirt/oracle.pid
for _ in $(seq 100); do
    virsh pool-list >/dev/null 2>&1 && break
    sleep 0.1
done
say() { printf '== %s\n' "$*"; }
quietly() { "$@" >/dev/null; }
both() { # POOL: the definition as virsh and as storagectl dump it
    virsh pool-dumpxml --inactive "$1" >"$W/theirs"
    $V pool-dumpxml --inactive "$1" >"$W/ours"
    cmp "$W/theirs" "$W/ours" && echo "$1 is the same"
}
files() { find /etc/libvirt/storage ! -type d -exec md5sum {} + | sort; }

mkdir -p "$W/a" "$W/t"
quietly virsh pool-define-as a dir --target "$W/a"
quietly virsh pool-autostart a
quietly virsh pool-start a
quietly virsh pool-define-as 'b ü' dir --target "$W/b"
quietly virsh pool-define-as f fs --source-dev /dev/nosuch --source-format xfs --target "$W/f"
quietly virsh pool-define-as n netfs --source-host nas --source-path /x --target "$W/n"
quietly virsh pool-autostart n
quietly virsh pool-define-as l logical --source-name vg0 --target /dev/vg0
quietly virsh pool-define-as d disk --source-dev /dev/nosuch1 --source-format gpt --target /dev
quietly virsh pool-define-as i iscsi --source-host nas --source-dev iqn.2003-01.org:x --target /dev/disk/by-path
quietly virsh pool-define-as s scsi --adapter-name host9 --target /dev/disk/by-path
quietly virsh pool-define-as m mpath --target /dev/mapper
quietly virsh pool-create-as t dir --target "$W/t"
before=$(files)

say import
$V import
say again
$V import
say list
$V pool-list --all | sed 's/ *$//'
# of a pool that has been active virsh dumps what it remembers
for pool in 'b ü' f n l d i s m; do both "$pool"; done

say stopped
kill "$(cat /run/libvirt/oracle.pid)"
while [ -e /run/libvirt/storage/driver.pid ] && kill -0 "$(cat /run/libvirt/storage/driver.pid)"; do
    sleep 0.1
done 2>/dev/null
$V import | grep '^Pool [at] '
[ "$(files)" = "$before" ] && say untouched
