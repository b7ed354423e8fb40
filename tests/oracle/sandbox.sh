#!/bin/bash
# One run of a job in name spaces of its own (oracle.py calls it under unshare --mount --pid
# --net): the mounts, the pools and the processes vanish with it, and no other libvirtd is disturbed.
# Given: JOB (the script) V OUT LOOPWORK LOOPFS LOOPDISK1 LOOPDISK2, and LIBVIRTD=1 to start a
# private libvirtd.
set -e
mount --make-rprivate /
mount -t tmpfs oracle /media
export WORK=/media/oracle
mkdir "$WORK"
mount -t ext4 "$LOOPWORK" "$WORK"
rmdir "$WORK/lost+found"
# LVM sees one device, whatever the machine has
mount -t tmpfs oracle /etc/lvm
cat >/etc/lvm/lvm.conf <<EOF
devices {
    filter = [ "a|^$LOOPDISK2\$|", "r|.*|" ]
    obtain_device_list_from_udev = 0
}
activation {
    udev_sync = 0
    udev_rules = 0
}
EOF
mkdir /media/tools
cp /usr/bin/qemu-img /media/tools
mount --bind "$(dirname "$0")/qemu-img.sh" /usr/bin/qemu-img
if [ "$LIBVIRTD" = 1 ]; then . "$(dirname "$0")/libvirtd.sh"; fi
set +e
bash "$JOB" >"$OUT/job.stdout" 2>"$OUT/job.stderr"
echo $? >"$OUT/job.status"
