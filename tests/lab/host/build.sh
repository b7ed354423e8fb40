#!/usr/bin/env bash
# Make the guest's kernel, initial RAM disk and root file system in folder $1,
# with the wheels in folder $2 installed.  Called by image.py only.
#
# shellcheck disable=SC2016  # what is in single quotes is for apt-get and inner shells
set -euo pipefail
to=$1 wheels=$2
guest=$(realpath "$(dirname "$0")/../guest")
suite=bookworm

# the machine's own sources of Debian 12, whichever mirror they name
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' |
    awk -v s="$suite" '$3 == "main" && ($2 == s || $2 == s "-updates" || $2 == s "-security") {print "deb " $0}' |
    sort -u)
if [ -z "$sources" ]; then
    sources="deb http://deb.debian.org/debian $suite main
deb http://deb.debian.org/debian-security $suite-security main"
fi
options=()
while IFS= read -r setting; do
    options+=("--aptopt=${setting%;}")
done < <(apt-config dump | grep -E '^Acquire::(http|https|Check-|Force|Retries)')

as_root=()
if [ "$(id -u)" = 0 ]; then
    mode=root
else
    mode=unshare
    as_root=(mmdebstrap --unshare-helper)
fi
packages=$(sed 's/#.*//' "$guest/packages" | tr -s ' \n' ',,' | sed 's/^,//; s/,$//')
mmdebstrap --mode="$mode" --variant=minbase --format=tar --include="$packages" "${options[@]}" \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"; echo MODULES=list >"$1/etc/initramfs-tools/conf.d/lab"' \
    --customize-hook="'$guest/customize' \"\$1\" '$wheels'" \
    "$suite" "$to/root.tar" - <<<"$sources"

# a sparse file: it takes what is in it
"${as_root[@]}" bash -c '
    set -eu
    cd "$1"
    mkdir root
    tar -xf root.tar -C root --numeric-owner
    cp root/boot/vmlinuz-* kernel
    cp root/boot/lab-initrd initrd
    mke2fs -q -t ext4 -d root root.img 8G
    rm -rf root root.tar' - "$to"
