#!/bin/bash
# An admin's scripts for virsh, run as they are, and with storagectl as `sed s/virsh/storagectl/`
# makes them of the same files.  Recorded are what they print, how they end, and what is left.
#
# Given by the harness: what record.sh needs, and LOOPFS LOOPDISK1.

: "${LOOPFS:?}" "${LOOPDISK1:?}"
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/record.sh"
export B=$OUT/scripts
mkdir "$B"
export PATH=$B:$PATH

program=virsh
if [[ $V != virsh ]]; then
    program=storagectl
    printf '#!/bin/sh\nexec %s "$@"\n' "$V" >"$B/storagectl"
    # so that none of them can reach a libvirtd of the machine
    printf '#!/bin/sh\necho "virsh is called" >&2\nexit 99\n' >"$B/virsh"
fi
for script in nightly-backup provision-vm capacity-report; do
    sed "s/virsh/$program/" "$HERE/$script.sh" >"$B/$script"
done
chmod +x "$B"/*

run() { # SHELL-TEXT: one call of a script
    sync -f "$W"
    s "$1"
}
# what is on disk: kinds, modes, owners, sizes and contents
left() { # FOLDER...
    s "find $* -printf '%y %m %U %G %p\n' | sort -k5"
    s "find $* -type f -printf '%s %p\n' | sort -k2"
    s "find $* -type f ! -name '*.xml' ! -name SHA256SUMS -exec sha256sum {} + | sort -k2"
    s "find $* -name '*.xml' -o -name SHA256SUMS | sort | xargs -r tail -n +1 --"
}
images() { # FOLDER: the header's own size tells nothing of the contents
    s "for f in $1/*.qcow2; do qemu-img info \"\$f\" | grep -v '^disk size'; done"
    s "for f in $1/*.qcow2; do qemu-img compare -f qcow2 -F raw \"\$f\" golden.raw; done"
}

# ------------------------------------------------------------------ a host of an admin
pool() { # NAME NUMBER TYPE SOURCE TARGET
    xml "$1.xml" <<EOF
<pool type='$3'>
  <name>$1</name>
  <uuid>11111111-1111-4111-8111-00000000000$2</uuid>
  <source>$4</source>
  <target><path>$5</path></target>
</pool>
EOF
    t pool-define "$X/$1.xml"
}
run 'capacity-report'
parted -s "$LOOPDISK1" mklabel gpt mkpart one 1MiB 9MiB mkpart two 10MiB 14MiB
udevadm settle 2>/dev/null
for _ in $(seq 40); do
    [ -b "${LOOPDISK1}p2" ] && break
    sleep 0.1
done
pool default 1 dir '' "$W/default"
pool archive 2 fs "<device path='$LOOPFS'/><format type='ext4'/>" "$W/archive"
pool disks 3 disk "<device path='$LOOPDISK1'/><format type='gpt'/>" /dev
pool spare 4 dir '' "$W/spare"
t pool-build default
t pool-build archive --overwrite
t pool-autostart default
t pool-autostart archive
for name in default archive disks; do
    t pool-start $name
done
python3 -c 'print("".join(f"{n:07}\n" for n in range(1 << 17)), end="")' >golden.raw
truncate -s 24M golden.raw
cp golden.raw default/golden.raw
qemu-img convert -f raw -O qcow2 golden.raw default/golden.qcow2
head -c 8M golden.raw >"${LOOPDISK1}p1"
head -c 4M /dev/zero >"${LOOPDISK1}p2"
printf 'ssh-ed25519 AAAA admin@example\n' >key.pub
truncate -s 2M archive/logs.raw
printf 'log' | dd of=archive/logs.raw bs=1 seek=1048576 conv=notrunc status=none
chmod 0640 archive/logs.raw

# ------------------------------------------------------------------ the report
refresh() { # virsh shows what it has seen at the last one
    sync -f "$W"
    for name in default archive disks; do
        t pool-refresh $name
    done
}
refresh
run 'capacity-report'
run 'capacity-report -x'
run 'capacity-report | head -n 1; echo "${PIPESTATUS[1]}"'

# ------------------------------------------------------------------ machines
run 'provision-vm'
run 'provision-vm golden.qcow2 vm0 64M extra'
run 'provision-vm -p nosuch golden.qcow2 vm0 64M'
run 'provision-vm nosuch.qcow2 vm0 64M'
run 'provision-vm golden.qcow2 vm1 64M'
run 'provision-vm golden.qcow2 vm1 64M'
run 'provision-vm -t golden.qcow2 vm2 1G'
run 'provision-vm golden.raw vm3 48M'
run 'provision-vm -t golden.raw vm4 24M'
run 'KEY_FILE=key.pub provision-vm -p default golden.qcow2 vm5 25M'
run 'provision-vm golden.qcow2 vm6 1M'
run 'provision-vm golden.qcow2 vm6 big'
run 'SEED_FILE=/nosuch provision-vm golden.qcow2 vm6 64M'
run 'KEY_FILE=/nosuch provision-vm golden.qcow2 vm7 64M'
t pool-destroy default
run 'provision-vm golden.qcow2 vm8 32M'
run 'provision-vm -p disks golden.qcow2 vm9 32M'
t vol-list default --details
images default
left default

# ------------------------------------------------------------------ the nights
mkdir backup
run 'nightly-backup'
run 'nightly-backup nosuch'
run 'DAY=2026-01-01 nightly-backup backup'
left backup
run 'cd backup/2026-01-01 && gunzip -k -r . && sha256sum -c SHA256SUMS'
run 'cmp "backup/2026-01-01/disks/${LOOPDISK1##*/}p1" <(head -c 8M golden.raw) && echo same'
run 'du -k --apparent-size backup/2026-01-01/default/golden.raw'
mkdir default/folder
ln -s /nosuch default/dangling
run 'DAY=2026-01-02 KEEP=2 nightly-backup backup archive nosuch default'
run 'DAY=2026-01-03 KEEP=2 nightly-backup backup archive spare'
left backup
rm "$W/default/vm1.qcow2"
run 'DAY=2026-01-04 KEEP=1 nightly-backup backup'
s 'ls backup backup/*'

# ------------------------------------------------------------------ the report again: all run
t pool-start spare
mkdir spare
t pool-start spare
refresh
run 'capacity-report -c 101 -w 101'
run 'capacity-report -w 1 -c 99'

# ------------------------------------------------------------------ back again
for name in default archive disks spare; do
    t pool-destroy $name
done
for name in default archive disks spare; do
    t pool-undefine $name
    t pool-define "$W/backup/2026-01-04/$name.xml"
    t pool-dumpxml $name
done
t pool-start archive
t vol-delete logs.raw archive
t vol-create archive "$W/backup/2026-01-04/archive/logs.raw.xml"
gunzip -k "$W/backup/2026-01-04/archive/logs.raw.gz"
t vol-upload logs.raw "$W/backup/2026-01-04/archive/logs.raw" archive
settle
left archive
run 'capacity-report'
t pool-destroy archive
exit 0
