#!/bin/bash
# The oracle's job: storage commands over dir, fs and disk pools, success and failure paths alike.
# It is run twice, with virsh and with storagectl, and the records are compared (oracle.py).
#
# Given by the harness: what record.sh needs, and LOOPFS LOOPDISK1 LOOPDISK2, loop devices with
# nothing on them (320, 256, 256 MiB).
#
# Rules: no kernel loop number in a name (use $D1, $D2); pool-refresh before looking at something
# virsh would show from its cache; nothing after a disk vol-delete may depend on its result.

: "${LOOPFS:?}" "${LOOPDISK1:?}" "${LOOPDISK2:?}"
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/record.sh"
D1=${LOOPDISK1#/dev/}
D2=${LOOPDISK2#/dev/}

U1=11111111-1111-4111-8111-000000000001
U2=11111111-1111-4111-8111-000000000002
U3=11111111-1111-4111-8111-000000000003
UNONE=11111111-1111-4111-8111-00000000dead

# ------------------------------------------------------------------ usage errors, nothing defined
t nosuch-command
t nosuch-command --opt x
t pool-inf orc-d1
t pool-info
t pool-info --nosuch x
t pool-info orc-d1 surplus
t pool-info --pool
t pool-info --pool=
t pool-info orc-d1 --pool orc-d1
t pool-info --bytes --bytes orc-d1
t pool-info --bytes=yes orc-d1
t pool-list surplus
t pool-list --bogus
t pool-list --all --inactive
t pool-list --details --name
t pool-list --details --uuid
t pool-list --type
t pool-list --type bogus
t pool-list --all --type dir,bogus
t pool-define
t pool-define "$X/nosuch.xml"
t pool-define "$X"
t pool-create
t pool-create "$X/nosuch.xml"
t pool-define-as
t pool-define-as orc-x
t pool-define-as orc-x --type
t pool-define-as orc-x dir --target /a --target /b
t pool-define-as orc-x bogus --target /a
t pool-create-as orc-x dir --overwrite --no-overwrite --target /a
t pool-start
t pool-build
t pool-destroy
t pool-delete
t pool-undefine
t pool-refresh
t pool-autostart
t pool-autostart --disable
t pool-edit
t pool-name
t pool-uuid
t pool-dumpxml
t vol-list
t vol-info
t vol-info a --pool
t vol-create
t vol-create orc-d1
t vol-create-as
t vol-create-as orc-d1
t vol-create-as orc-d1 a
t vol-create-from orc-d1
t vol-create-from orc-d1 "$X/nosuch.xml"
t vol-clone a
t vol-clone
t vol-delete
t vol-resize a
t vol-resize
t vol-upload a
t vol-download a
t vol-wipe
t vol-path
t vol-name
t vol-key
t vol-pool
t vol-name a --pool orc-d1
t vol-pool a b
t -q pool-info
t pool-info nosuch
t -q pool-info nosuch
t pool-info "$UNONE"
t pool-dumpxml nosuch
t pool-dumpxml nosuch --inactive
t pool-start nosuch
t pool-start nosuch --build --overwrite --no-overwrite
t pool-build nosuch
t pool-build nosuch --overwrite --no-overwrite
t pool-destroy nosuch
t pool-delete nosuch
t pool-undefine nosuch
t pool-refresh nosuch
t pool-autostart nosuch
t pool-autostart --disable nosuch
t pool-uuid nosuch
t pool-name nosuch
t pool-name "$UNONE"
EDITOR=true t pool-edit nosuch
t vol-list nosuch
t vol-list nosuch --details
t vol-info a nosuch
t vol-info --pool nosuch a
t vol-info a.raw
t vol-path a.raw
t vol-key a.raw
t vol-name a.raw
t vol-pool a.raw
t vol-name "$W//d1///a.raw"
t vol-delete a.raw
t vol-create-as nosuch a 1M
t vol-create nosuch "$X/nosuch.xml"
t vol-clone a b
t vol-upload a /etc/hostname
t vol-download a "$W/out"
t vol-wipe a
t vol-resize a 1M
t vol-dumpxml a
s 'ls -a'
t pool-list
t pool-list --all
t pool-list --details
t pool-list --name
t pool-list --uuid
t -q pool-list
t -q pool-list --name

# ------------------------------------------------------------------ capabilities
L=capabilities t pool-capabilities
t pool-capabilities surplus

# ------------------------------------------------------------------ pool XML: what is refused
xml empty.xml </dev/null
xml broken.xml <<'EOF'
<pool type='dir'>
  <name>orc-x</name>
  <target><path>/tmp/x</target>
</pool>
EOF
xml root.xml <<'EOF'
<network><name>x</name></network>
EOF
xml notype.xml <<'EOF'
<pool><name>orc-x</name><target><path>/tmp/x</path></target></pool>
EOF
xml badtype.xml <<'EOF'
<pool type='bogus'><name>orc-x</name><target><path>/tmp/x</path></target></pool>
EOF
xml noname.xml <<'EOF'
<pool type='dir'><target><path>/tmp/x</path></target></pool>
EOF
xml slash.xml <<'EOF'
<pool type='dir'><name>orc/x</name><target><path>/tmp/x</path></target></pool>
EOF
xml baduuid.xml <<'EOF'
<pool type='dir'><name>orc-x</name><uuid>123</uuid><target><path>/tmp/x</path></target></pool>
EOF
xml notarget.xml <<'EOF'
<pool type='dir'><name>orc-x</name></pool>
EOF
xml nopath.xml <<'EOF'
<pool type='dir'><name>orc-x</name><target/></pool>
EOF
xml nodev.xml <<'EOF'
<pool type='fs'><name>orc-x</name><source/><target><path>/tmp/x</path></target></pool>
EOF
xml nodevpath.xml <<'EOF'
<pool type='fs'><name>orc-x</name><source><device/></source><target><path>/tmp/x</path></target></pool>
EOF
xml badformat.xml <<'EOF'
<pool type='fs'><name>orc-x</name><source><device path='/dev/zero'/><format type='zzz'/></source>
<target><path>/tmp/x</path></target></pool>
EOF
xml baddiskformat.xml <<'EOF'
<pool type='disk'><name>orc-x</name><source><device path='/dev/zero'/><format type='ext4'/></source>
<target><path>/dev</path></target></pool>
EOF
xml badmode.xml <<'EOF'
<pool type='dir'><name>orc-x</name>
<target><path>/tmp/x</path><permissions><mode>999</mode></permissions></target></pool>
EOF
xml bigmode.xml <<'EOF'
<pool type='dir'><name>orc-x</name>
<target><path>/tmp/x</path><permissions><mode>01777</mode></permissions></target></pool>
EOF
xml badowner.xml <<'EOF'
<pool type='dir'><name>orc-x</name>
<target><path>/tmp/x</path><permissions><owner>root</owner></permissions></target></pool>
EOF
xml badgroup.xml <<'EOF'
<pool type='dir'><name>orc-x</name>
<target><path>/tmp/x</path><permissions><group>root</group></permissions></target></pool>
EOF
xml badcow.xml <<'EOF'
<pool type='dir'><name>orc-x</name><features><cow state='maybe'/></features>
<target><path>/tmp/x</path></target></pool>
EOF
xml netfsnohost.xml <<'EOF'
<pool type='netfs'><name>orc-x</name><source><dir path='/a'/></source>
<target><path>/tmp/x</path></target></pool>
EOF
xml netfsnodir.xml <<'EOF'
<pool type='netfs'><name>orc-x</name><source><host name='h'/></source>
<target><path>/tmp/x</path></target></pool>
EOF
for f in empty broken root notype badtype noname slash baduuid notarget nopath nodev nodevpath \
    badformat baddiskformat badmode bigmode badowner badgroup badcow netfsnohost netfsnodir; do
    t pool-define "$X/$f.xml"
done
t pool-create "$X/empty.xml"
t pool-create "$X/broken.xml"
t pool-create --build "$X/notarget.xml"
t pool-create "$X/slash.xml"
t pool-define-as orc-x dir
t pool-define-as orc/x dir --target /tmp/x
t pool-define-as 'orc<x' dir --target /tmp/x
t pool-define-as orc-x fs --target /tmp/x
t pool-define-as orc-x disk --target /dev
t pool-define-as orc-x netfs --target /tmp/x
t pool-define-as orc-x fs --source-dev /dev/zero
t pool-define-as orc-x fs --source-dev /dev/zero --source-format zzz --target /tmp/x
t pool-create-as orc-x dir
t pool-create-as orc-x bogus --target /tmp/x
t pool-list --all

# ------------------------------------------------------------------ --print-xml
t pool-define-as orc-p dir --target /tmp/x --print-xml
t pool-define-as orc-p dir --print-xml
t pool-define-as orc-p dir - - - - /tmp/x --print-xml
t pool-define-as --print-xml --name orc-p --type fs --source-dev /dev/sdz1 --source-format xfs --target /m
t pool-define-as orc-p netfs h /exp - - /m nfs --print-xml
t pool-define-as orc-p netfs --source-host=h --source-path=/exp --target=/m --source-protocol-ver=4 \
    --source-format=nfs --print-xml
t pool-define-as orc-p logical --source-name vg --source-dev /dev/sdz --target /dev/vg --print-xml
t pool-define-as orc-p disk --source-dev /dev/sdz --source-format gpt --target /dev --print-xml
t pool-define-as orc-p iscsi --source-host h --source-dev iqn.x --target /dev/disk/by-path \
    --source-initiator iqn.i --auth-type chap --auth-username u --secret-usage sec --print-xml
t pool-define-as orc-p scsi --adapter-name scsi_host1 --target /dev/disk/by-path --print-xml
t pool-define-as orc-p scsi --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
    --adapter-parent scsi_host1 --target /dev/disk/by-path --print-xml
t pool-define-as orc-p iscsi --secret-usage a --secret-uuid "$U1" --target /m --print-xml
t pool-create-as orc-p dir --target '/tmp/a b&c' --print-xml
t pool-create-as orc-p mpath --target /dev/mapper --print-xml
t pool-create-as orc-p dir --target /tmp/x --print-xml --overwrite --no-overwrite
t pool-list --all

# ------------------------------------------------------------------ dir: define, build, start, stop
t pool-define-as orc-d1 dir --target "$W/d1"
t pool-list
t pool-list --all
t pool-list --inactive
t pool-list --all --details
t pool-list --all --name
t pool-info orc-d1
t pool-info --bytes orc-d1
t pool-dumpxml orc-d1
t pool-dumpxml orc-d1 --inactive
t pool-uuid orc-d1
t pool-define-as orc-d1 dir --target "$W/d1"
t pool-define-as orc-dup dir --target "$W/d1"
t pool-define-as orc-dup dir --target "$W//d1/"
t pool-create-as orc-dup dir --target "$W/d1"
t pool-start orc-d1
s 'ls -ld d1'
t pool-refresh orc-d1
t pool-destroy orc-d1
t pool-delete orc-d1
t vol-list orc-d1
t vol-list --details orc-d1
t vol-create-as orc-d1 a.raw 1M
t vol-info a.raw orc-d1
t vol-info a.raw --pool orc-d1
t pool-build orc-d1 --overwrite --no-overwrite
t pool-build orc-d1 --overwrite
t pool-build orc-d1 --no-overwrite
t pool-build orc-d1
s 'stat -c "%F %a %u %g" d1'
t pool-build --pool orc-d1
t pool-start orc-d1
t pool-start orc-d1
t pool-build orc-d1
t pool-delete orc-d1
t pool-undefine orc-d1
t pool-list
t pool-list --all --inactive
t pool-list --inactive
t pool-autostart orc-d1
t pool-list --autostart
t pool-list --no-autostart
t pool-list --autostart --no-autostart
t pool-autostart orc-d1
t pool-info orc-d1
t pool-autostart orc-d1 --disable
t pool-autostart --disable --pool=orc-d1
t pool-list --autostart
t vol-list orc-d1
t vol-list orc-d1 --details
t -q vol-list orc-d1
t pool-destroy orc-d1
t pool-destroy orc-d1
t pool-start orc-d1 --build
t pool-destroy orc-d1
t pool-start orc-d1 --overwrite
t pool-list --all
t pool-start orc-d1 --overwrite --no-overwrite
t pool-start orc-d1
t pool-refresh orc-d1

# fixed UUIDs, permissions, lookups by UUID
xml d2.xml <<EOF
<pool type="dir">
  <name>orc-d2</name>
  <uuid>$U2</uuid>
  <source></source>
  <target>
    <path>$W/sub/d2///</path>
    <permissions><mode>0750</mode><owner>0</owner><group>0</group></permissions>
  </target>
</pool>
EOF
t pool-define "$X/d2.xml"
t pool-define --file "$X/d2.xml"
t pool-dumpxml orc-d2
t pool-dumpxml "$U2" --inactive
t pool-name "$U2"
t pool-name --uuid="$U2"
t pool-uuid orc-d2
t pool-uuid "$U2"
t pool-name orc-d2
t pool-info "$U2"
t pool-build "$U2"
s 'stat -c "%n %a %u %g" sub sub/d2'
t pool-start "$U2"
t pool-refresh "$U2"
t pool-autostart "$U2"
t pool-autostart "$U2" --disable
t pool-dumpxml orc-d2 --xpath //name
t pool-dumpxml orc-d2 --xpath '//target/permissions'
t pool-dumpxml orc-d2 --xpath '//name | //uuid' --wrap
t pool-dumpxml orc-d2 --xpath '//target/path/text()'
t pool-dumpxml orc-d2 --xpath '/pool/@type'
t pool-dumpxml orc-d2 --xpath //nosuch
t pool-dumpxml orc-d2 --xpath //nosuch --wrap
t pool-dumpxml orc-d2 --xpath 'string(//name)'
t pool-dumpxml orc-d2 --xpath 'count(//name)'
L=xpath-broken t pool-dumpxml orc-d2 --xpath '//['
t pool-dumpxml orc-d2 --wrap
t -q pool-dumpxml orc-d2 --xpath //name
t pool-destroy "$U2"
t pool-delete "$U2"
s 'ls -d sub sub/d2'
t pool-delete "$U2"
t pool-start orc-d2
t pool-list --all --uuid
t pool-list --all --uuid --name
t pool-list --all --name
t -q pool-list --all
t -q pool-list --all --uuid
t pool-list --all --type dir
t pool-list --all --type fs
t pool-list --all --type dir,fs,disk
t pool-list --all --type dir,,fs
t pool-list --persistent
t pool-list --all --persistent
t pool-list --transient
t pool-refresh orc-d1
t pool-list --all --transient --persistent --details --type=dir
sed "s/orc-d2/orc-other/" "$X/d2.xml" >"$X/sameuuid.xml"
t pool-define "$X/sameuuid.xml"
sed "s/orc-d2/orc-other/; s|sub/d2|sub/d3|" "$X/d2.xml" >"$X/sameuuid2.xml"
t pool-define "$X/sameuuid2.xml"
t pool-create "$X/sameuuid2.xml"
sed "s/$U2/$U3/" "$X/d2.xml" >"$X/samename.xml"
t pool-define "$X/samename.xml"
t pool-create "$X/samename.xml"
sed "/uuid/d; s|sub/d2|sub/d4|" "$X/d2.xml" >"$X/nouuid.xml"
t pool-define "$X/nouuid.xml"
sed "s|sub/d2|sub/d5|" "$X/d2.xml" >"$X/changed.xml"
t pool-define "$X/changed.xml"
t pool-dumpxml orc-d2 --xpath //target/path
t pool-start orc-d2 --build
t pool-create "$X/changed.xml"
t pool-dumpxml orc-d2 --xpath '//target'
# redefined while it runs: the new one is the next one
t pool-define "$X/d2.xml"
t pool-dumpxml orc-d2 --xpath //target/path
t pool-dumpxml orc-d2 --inactive --xpath //target/path
t pool-destroy orc-d2
t pool-dumpxml orc-d2 --xpath //target/path
t pool-undefine "$U2"
t pool-undefine orc-d2

# names that need care, odd but valid XML
xml odd.xml <<EOF
<?xml version="1.0"?>
<!-- a comment -->
<pool xmlns:foo="urn:foo" type='dir' foo:bar="1">
  <capacity>123</capacity><junk>text</junk>
  <target><path>$W/odd &amp; dir</path></target>
  <name>orc-odd&amp;'"&lt;&gt;</name>
  <uuid>11111111111141118111000000000003</uuid>
</pool>
EOF
t pool-define "$X/odd.xml"
t pool-dumpxml "$U3"
t pool-name "$U3"
t pool-list --all
t pool-build "orc-odd&'\"<>"
t pool-start "orc-odd&'\"<>"
t vol-create-as "orc-odd&'\"<>" "v & <x>'\".raw" 1M
t vol-list "orc-odd&'\"<>"
t vol-path "v & <x>'\".raw" "orc-odd&'\"<>"
t pool-refresh "orc-odd&'\"<>"
t vol-dumpxml "v & <x>'\".raw" --pool "$U3"
t vol-delete "v & <x>'\".raw" "$U3"
t pool-destroy "$U3"
t pool-delete "$U3"
t pool-undefine "$U3"
t pool-define-as --name "orc name with blanks" --type=dir --target "$W/blanks"
t pool-list --all
t pool-list --all --name
t pool-undefine "orc name with blanks"
t pool-define-as "orc-$U3" dir --target "$W/long"
t pool-refresh orc-d1
t pool-list --all --details
t pool-undefine "orc-$U3"
t pool-define-as orc-ünïcode dir --target "$W/uni"
t pool-list --all
t pool-undefine orc-ünïcode
t pool-define-as 日本 dir --target "$W/uni"
t pool-list --all
t pool-undefine 日本
LC_ALL=C t pool-define-as orc-ü dir --target "$W/uni"
LC_ALL=C L=c-locale t pool-list --all
t pool-undefine orc-ü
t pool-define-as '' dir --target "$W/uni"
t pool-define-as -- orc-dash dir
t pool-define-as orc-rel dir --target relative/path
t pool-undefine orc-rel
xml cow.xml <<EOF
<pool type='dir'><name>orc-cow</name><features><cow state='no'/></features>
<target><path>$W/cow</path></target></pool>
EOF
t pool-define "$X/cow.xml"
t pool-dumpxml orc-cow
t pool-build orc-cow
t pool-undefine orc-cow; rmdir "$W/cow" 2>/dev/null

# transient pools
t pool-create-as orc-t1 dir --target "$W/t1"
t pool-create-as orc-t1 dir --target "$W/t1" --build
t pool-list --transient
t pool-list --persistent
t pool-list --all --details --transient --type dir
t pool-info orc-t1
t pool-autostart orc-t1
t pool-autostart orc-t1 --disable
t pool-undefine orc-t1
t pool-create-as orc-t1 dir --target "$W/t1"
t pool-dumpxml orc-t1 --inactive --xpath //target/path
t pool-destroy orc-t1
t pool-info orc-t1
t pool-list --all
t pool-create-as --name orc-t1 --type dir --target="$W/t1" --overwrite
t pool-create-as --name orc-t1 --type dir --target="$W/t1" --no-overwrite --build
t pool-list --all
xml t2.xml <<EOF
<pool type='dir'><name>orc-t2</name><uuid>$U1</uuid><target><path>$W/t2</path></target></pool>
EOF
t pool-create "$X/t2.xml"
t pool-create "$X/t2.xml" --overwrite --no-overwrite
t pool-create "$X/t2.xml" --build
t pool-create "$X/t2.xml" --build
t pool-define "$X/t2.xml"
t pool-info "$U1"
t pool-destroy "$U1"
t pool-info "$U1"
t pool-create "$X/t2.xml"
t pool-info "$U1"
t pool-undefine orc-t2
t pool-destroy orc-t2
t pool-undefine orc-t2

# a target that is a file, and one that vanishes under the pool
touch "$W/afile"
t pool-define-as orc-file dir --target "$W/afile"
t pool-build orc-file
t pool-start orc-file
t pool-delete orc-file
t pool-undefine orc-file
t pool-create-as orc-gone dir --target "$W/gone" --build
rmdir "$W/gone"
L=target-gone t pool-refresh orc-gone
t pool-list --all
t pool-define-as orc-gone dir --target "$W/gone"
t pool-start orc-gone --build
rmdir "$W/gone"
L=target-gone t pool-refresh orc-gone
t pool-info orc-gone
t pool-undefine orc-gone

# ------------------------------------------------------------------ pool-edit
cat >"$W/ed-broken" <<'EOF'
#!/bin/sh
sed -i 's|</name>||' "$1"
EOF
cat >"$W/ed-invalid" <<'EOF'
#!/bin/sh
sed -i '/<path>/d' "$1"
EOF
cat >"$W/ed-fix" <<EOF
#!/bin/sh
if [ -e $W/edited-once ]; then sed -i 's|</NAME>|</name>|; s|/ed[0-9]|/ed4|' "\$1"
else touch $W/edited-once; sed -i 's|</name>|</NAME>|' "\$1"; fi
EOF
cat >"$W/ed-to" <<EOF
#!/bin/sh
sed -i "s|<path>.*</path>|<path>$W/\$TO</path>|" "\$1"
EOF
cat >"$W/ed-show" <<EOF
#!/bin/sh
cp "\$1" $W/edited-text
EOF
chmod +x "$W"/ed-*
t pool-define-as orc-ed dir --target "$W/ed0"
EDITOR=true t pool-edit orc-ed
EDITOR="$W/ed-show" t pool-edit orc-ed
s 'cat edited-text'
EDITOR="sed -i s,/ed0,/ed1," t pool-edit orc-ed
t pool-dumpxml orc-ed --xpath //target/path
VISUAL="sed -i s,/ed[0-9],/ed2," EDITOR=false t pool-edit --pool=orc-ed
t pool-dumpxml orc-ed --xpath //target/path
EDITOR="$W/ed-broken" IN=$'n\n' L=edit-not-asked t pool-edit orc-ed
EDITOR="$W/ed-invalid" L=edit-not-asked t pool-edit orc-ed
EDITOR="$W/ed-broken" L=edit-asked q n pool-edit orc-ed
EDITOR="$W/ed-invalid" L=edit-asked q n pool-edit orc-ed
EDITOR="$W/ed-broken" L=edit-asked q fn pool-edit orc-ed
EDITOR="$W/ed-broken" L=edit-asked q '?n' pool-edit orc-ed
EDITOR="$W/ed-broken" L=edit-asked q in pool-edit orc-ed
t pool-dumpxml orc-ed --xpath //target/path
EDITOR="$W/ed-fix" L=edit-asked q y pool-edit orc-ed
t pool-dumpxml orc-ed --xpath //target/path
L=edit-editor-fails EDITOR=false t pool-edit orc-ed
L=edit-editor-missing EDITOR=/nosuch/editor t pool-edit orc-ed
EDITOR="sed -i s,orc-ed,orc-renamed," L=edit-not-asked t pool-edit orc-ed
EDITOR="sed -i s,orc-ed,orc-renamed," L=edit-asked q n pool-edit orc-ed
EDITOR="sed -i /uuid/d" L=edit-not-asked t pool-edit orc-ed
EDITOR="sed -i /uuid/d" L=edit-asked q n pool-edit orc-ed
TO=ed3 EDITOR="$W/ed-to" L=edit-asked q '' pool-edit orc-ed
t pool-list --all --name
mkdir "$W/ed9"
TO=ed9 EDITOR="$W/ed-to" t pool-edit orc-ed
t pool-start orc-ed
TO=ed10 EDITOR="$W/ed-to" t pool-edit orc-ed
t pool-dumpxml orc-ed --xpath //target/path
t pool-dumpxml orc-ed --xpath //target/path --inactive
t pool-destroy orc-ed
t pool-dumpxml orc-ed --xpath //target/path
t pool-undefine orc-ed

# ------------------------------------------------------------------ volumes in a dir pool: create
t vol-create-as orc-d1 a.raw 10M
t vol-create-as orc-d1 a.raw 10M
t vol-list orc-d1
t vol-list orc-d1 --details
t vol-list --details --pool=orc-d1
t -q vol-list orc-d1
t -q vol-list orc-d1 --details
s 'stat -c "%s %b %a %u %g" d1/a.raw'
t vol-info a.raw orc-d1
t vol-info --vol a.raw --pool orc-d1 --bytes
t vol-info --bytes --physical a.raw orc-d1
t vol-info --physical a.raw orc-d1
t vol-info "$W/d1/a.raw"
t vol-info "$W//d1/./a.raw"
t vol-info "$W//d1/a.raw"
t vol-info a.raw
t vol-info nosuch.raw orc-d1
t vol-info nosuch.raw --pool orc-d1
t vol-path a.raw orc-d1
t vol-path --pool orc-d1 a.raw
t vol-path a.raw
t vol-key a.raw --pool=orc-d1
t vol-key "$W/d1/a.raw"
t vol-name "$W/d1/a.raw"
t vol-name a.raw
t vol-pool "$W/d1/a.raw"
t vol-pool "$W/d1/a.raw" --uuid
t vol-pool a.raw
t vol-path "$W/d1/a.raw" orc-d1
t vol-dumpxml a.raw orc-d1
t vol-dumpxml a.raw orc-d1 --xpath //capacity
t vol-dumpxml a.raw orc-d1 --xpath '//name|//target/path' --wrap
t vol-dumpxml "$W/d1/a.raw" --xpath '//target/format/@type'
t vol-dumpxml a.raw --pool orc-d1 --xpath 'string(//name)'
t vol-dumpxml nosuch.raw orc-d1
t vol-create-as orc-d1 sparse.raw 64M --allocation 0
t vol-create-as orc-d1 half.raw 8M --allocation 4M
L=allocation-over-capacity t vol-create-as orc-d1 more.raw 4M --allocation 8M
L=allocation-over-capacity s 'stat -c "%s %b" d1/more.raw'
t vol-delete more.raw orc-d1
t vol-create-as --pool orc-d1 --name opts.raw --capacity 1M --allocation=0 --format=raw
t vol-create-as orc-d1 zero.raw 0
t vol-create-as orc-d1 bytes.raw 1000
t vol-create-as orc-d1 unit1 1k --allocation 0
t vol-create-as orc-d1 unit2 1KB --allocation 0
t vol-create-as orc-d1 unit3 1KiB --allocation 0
t vol-create-as orc-d1 unit4 3mb --allocation 0
t vol-create-as orc-d1 unit5 512b --allocation 0
t vol-create-as orc-d1 unit6 2G --allocation 0
t vol-create-as orc-d1 unit7 1GB 0 raw
t vol-list orc-d1 --details
s 'stat -c "%n %s" d1/*'
for size in 10X 1.5G abc -1 '' 10MBB 9E 99999999999999999999; do
    t vol-create-as orc-d1 badsize.raw "$size" --allocation 0
done
t vol-create-as orc-d1 badsize.raw 1M --allocation 1Q
t vol-create-as orc-d1 badsize.raw 1M --allocation=-1
t vol-create-as orc-d1 slash/name.raw 1M
t vol-create-as orc-d1 ../escape.raw 1M
t vol-create-as orc-d1 . 1M
t vol-create-as orc-d1 .. 1M
t vol-create-as orc-d1 '' 1M
t vol-create-as orc-d1 --name -dash.raw --capacity 1M
t vol-delete -dash.raw orc-d1
t vol-create-as orc-d1 .hidden 1M
t vol-create-as orc-d1 'v<x' 1M
t vol-create-as orc-d1 badformat 1M --format zzz
t vol-create-as orc-d1 badformat 1M --format none
t vol-create-as orc-d1 toobig.raw 4G
t vol-list orc-d1 --details
s 'ls -a d1'
touch "$W/d1/ondisk.raw"
L=unlisted t vol-create-as orc-d1 ondisk.raw 1M
t pool-refresh orc-d1
t vol-info ondisk.raw orc-d1
t vol-create-as orc-d1 ondisk.raw 1M
t vol-delete ondisk.raw orc-d1
t vol-create-as orc-d1 xml.raw 1M --print-xml
t vol-create-as orc-d1 xml.raw 1M --allocation 0 --format qcow2 --backing-vol a.raw \
    --backing-vol-format raw --print-xml
t vol-create-as orc-d1 xml.raw 1M --backing-vol nosuch.raw --print-xml
t vol-create-as nosuch xml.raw 1M --print-xml
t vol-create-as orc-d1 xml.raw 1Q --print-xml
t vol-create-as orc-d1 prealloc.raw 1M --prealloc-metadata
for f in qcow2 qcow vmdk vdi vpc qed; do
    t vol-create-as orc-d1 "f.$f" 16M --format "$f" --allocation 0
done
for f in bochs cow cloop dmg iso fat vhd dir; do
    t vol-create-as orc-d1 "f.$f" 16M --format "$f" --allocation 0
done
L=ploop t vol-create-as orc-d1 f.ploop 16M --format ploop --allocation 0
rm -rf "$W/d1/f.ploop"
t pool-refresh orc-d1
t vol-list orc-d1
t vol-list orc-d1 --details
for f in qcow2 qcow vmdk vdi vpc; do
    t vol-info "f.$f" orc-d1
    t vol-dumpxml "f.$f" orc-d1
done
t vol-dumpxml f.dir orc-d1
t vol-info f.dir orc-d1
t vol-delete f.dir orc-d1
t vol-create-as orc-d1 pm.qcow2 16M --format qcow2 --prealloc-metadata
t vol-create-as orc-d1 pm0.qcow2 16M --format qcow2 --prealloc-metadata --allocation 0
t vol-create-as orc-d1 full.qcow2 4M --format qcow2
t vol-create-as orc-d1 zero.qcow2 0 --format qcow2
t vol-create-as orc-d1 odd.qcow2 1000 --format qcow2 --allocation 0
t pool-refresh orc-d1
for f in pm pm0 full zero odd; do
    t vol-info $f.qcow2 orc-d1
done
t vol-create-as orc-d1 over.qcow2 16M --format qcow2 --backing-vol f.qcow2 --backing-vol-format qcow2 \
    --allocation 0
t vol-create-as orc-d1 over2.qcow2 16M --format qcow2 --backing-vol "$W/d1/a.raw" --allocation 0
t vol-create-as orc-d1 over3.qcow2 16M --format qcow2 --backing-vol a.raw --backing-vol-format zzz
t vol-create-as orc-d1 over4.qcow2 16M --format qcow2 --backing-vol nosuch.qcow2
t vol-create-as orc-d1 over5.raw 16M --format raw --backing-vol a.raw
t vol-create-as orc-d1 over6.qcow2 16M --format qcow2 --backing-vol a.raw --prealloc-metadata
t vol-create-as orc-d1 over7.qcow2 32M qcow2
t pool-refresh orc-d1
t vol-dumpxml over.qcow2 orc-d1
t vol-dumpxml over2.qcow2 orc-d1
t vol-dumpxml over.qcow2 orc-d1 --xpath //backingStore
t vol-info over.qcow2 orc-d1

# vol-create from XML
xml v1.xml <<'EOF'
<volume>
  <name>x1.raw</name>
  <capacity unit='MiB'>3</capacity>
  <allocation>0</allocation>
  <target><format type='raw'/><permissions><mode>0640</mode><owner>0</owner><group>0</group></permissions></target>
</volume>
EOF
xml v2.xml <<'EOF'
<volume type='block'>
  <name>x2.qcow2</name>
  <capacity unit='M'>8</capacity>
  <allocation unit='K'>0</allocation>
  <target><format type='qcow2'/><compat>1.1</compat><clusterSize unit='KiB'>128</clusterSize>
  <features><lazy_refcounts/></features><nocow/></target>
</volume>
EOF
xml v3.xml <<EOF
<volume><name>x3.qcow2</name>
<target><format type='qcow2'/></target>
<backingStore><path>$W/d1/f.qcow2</path><format type='qcow2'/></backingStore></volume>
EOF
xml v4.xml <<EOF
<volume><name>x4.qcow2</name><capacity>1048576</capacity>
<target><format type='qcow2'/></target>
<backingStore><path>$W/d1/nosuch.qcow2</path><format type='qcow2'/></backingStore></volume>
EOF
for f in v1 v2 v3 v4; do
    t vol-create orc-d1 "$X/$f.xml"
done
t vol-create --pool orc-d1 --file "$X/v1.xml"
t pool-refresh orc-d1
for f in x1.raw x2.qcow2 x3.qcow2; do
    t vol-dumpxml $f orc-d1
done
s 'stat -c "%s %b %a" d1/x1.raw'
vxml() { xml "$1" && t vol-create orc-d1 "$X/$1"; }
vxml e1.xml <<<"<foo/>"
vxml e2.xml <<<"<volume><capacity>1</capacity></volume>"
vxml e3.xml <<<"<volume><name>e</name></volume>"
vxml e4.xml <<<"<volume><name>e</name><capacity>abc</capacity></volume>"
vxml e5.xml <<<"<volume><name>e</name><capacity>-5</capacity></volume>"
vxml e6.xml <<<"<volume><name>e</name><capacity unit='Q'>5</capacity></volume>"
vxml e7.xml <<<"<volume><name>e</name><capacity>1</capacity><allocation>x</allocation></volume>"
vxml e8.xml <<<"<volume type='zz'><name>e</name><capacity>1</capacity></volume>"
vxml e9.xml <<<"<volume><name>e</name><capacity>1</capacity><target><format type='zz'/></target></volume>"
vxml e10.xml <<<"<volume><name>a/b</name><capacity>1</capacity></volume>"
vxml e11.xml <<<"<volume><name>e</name><capacity>1</capacity><target><permissions><mode>9</mode></permissions></target></volume>"
vxml e12.xml <<<"<volume><name>e</name><capacity>1"
vxml e13.xml </dev/null
vxml e14.xml <<<"<volume><name>e</name><capacity>1</capacity><target><format type='qcow2'/><compat>x</compat></target></volume>"
vxml e15.xml <<<"<volume><name>e</name><capacity>1</capacity><target><format type='qcow2'/><features><zz/></features></target></volume>"
vxml e16.xml <<<"<volume><name>e</name><capacity>1</capacity><target><format type='vdi'/><compat>1.1</compat></target></volume>"
vxml e17.xml <<<"<volume><name>e</name><capacity>1</capacity><target><format type='qcow2'/><compat>0.10</compat><features><lazy_refcounts/></features></target></volume>"
vxml e18.xml <<<"<volume><name>a.raw</name><capacity>1</capacity></volume>"
vxml e19.xml <<<"<volume><name>e</name><capacity unit='E'>9</capacity></volume>"
vxml e20.xml <<<"<volume><name>e</name><capacity>1</capacity><target><encryption format='zz'/></target></volume>"
t vol-create orc-d1 "$X/nosuch.xml"
t vol-create orc-d1 "$X/v1.xml" --prealloc-metadata
t vol-create orc-d1 "$X/v1.xml" surplus
t vol-list orc-d1

# foreign images, directories and oddities
rm -f "$W"/d1/unit*
qemu-img create -q -f qcow2 "$W/d1/for1.qcow2" 32M
qemu-img create -q -f qcow2 -o compat=0.10 "$W/d1/for2.qcow2" 32M
qemu-img create -q -f qcow2 -o lazy_refcounts=on,extended_l2=on,cluster_size=131072 "$W/d1/for3.qcow2" 32M
qemu-img create -q -f qcow2 -b for1.qcow2 -F qcow2 "$W/d1/for4.qcow2"
qemu-img create -q -f qcow2 -b nowhere.qcow2 -F qcow2 -u "$W/d1/for5.qcow2" 8M
qemu-img create -q -f luks --object secret,id=s,data=x -o key-secret=s,iter-time=10 "$W/d1/for6.luks" 4M
mkdir "$W/d1/adir"
touch "$W/d1/adir/inside"
ln -s a.raw "$W/d1/link.raw"
ln -s nowhere "$W/d1/dangling"
mkfifo "$W/d1/fifo"
printf 'hello' >"$W/d1/five"
t pool-refresh orc-d1
t vol-list orc-d1
t vol-list orc-d1 --details
for f in for1.qcow2 for2.qcow2 for3.qcow2 for4.qcow2 for5.qcow2 for6.luks adir link.raw five; do
    t vol-dumpxml $f orc-d1
done
t vol-info dangling orc-d1
t vol-info fifo orc-d1
t vol-info adir orc-d1
t vol-delete adir orc-d1
rm "$W/d1/adir/inside"
t vol-delete adir orc-d1
t vol-delete link.raw orc-d1
s 'ls -l d1 | grep -c link.raw; ls d1/a.raw'
rm -f "$W"/d1/{dangling,fifo,five,for?.*}
t pool-refresh orc-d1

# the cached list and the truth
rm "$W/d1/opts.raw"
L=vanished t vol-info opts.raw orc-d1
L=vanished t vol-dumpxml opts.raw orc-d1
L=vanished t vol-list orc-d1
L=vanished t vol-delete opts.raw orc-d1
touch "$W/d1/appeared"
L=appeared t vol-path appeared orc-d1
rm "$W/d1/appeared"
t pool-refresh orc-d1

# ------------------------------------------------------------------ resize
t vol-create-as orc-d1 r.raw 4M --allocation 0
t vol-resize r.raw 8M orc-d1
t vol-resize r.raw 8M --pool orc-d1
s 'stat -c "%s %b" d1/r.raw'
t vol-resize r.raw 2M --pool orc-d1 --delta
t vol-resize --vol r.raw --capacity=1M --pool=orc-d1 --delta
s 'stat -c "%s %b" d1/r.raw'
t vol-resize r.raw 5M orc-d1
t vol-resize r.raw 5M orc-d1 --shrink
t vol-resize r.raw 1M orc-d1 --shrink --delta
t vol-resize r.raw -1M orc-d1
t vol-resize r.raw -1M orc-d1 --shrink
t vol-resize r.raw -- -1M orc-d1
t vol-resize r.raw -100M orc-d1 --shrink
s 'stat -c "%s %b" d1/r.raw'
t vol-resize r.raw 6M orc-d1 --allocate
s 'stat -c "%s %b" d1/r.raw'
t vol-resize r.raw 1M orc-d1 --shrink
t vol-resize r.raw 3000000 orc-d1 --shrink
t vol-resize r.raw 7000001 orc-d1
t vol-info r.raw orc-d1 --bytes
t vol-resize r.raw abc orc-d1
t vol-resize r.raw 10X orc-d1
t vol-resize r.raw '' orc-d1
t vol-resize r.raw 0 orc-d1
t vol-resize r.raw 1T orc-d1 --allocate
t vol-resize nosuch.raw 8M orc-d1
t vol-resize r.raw 8M nosuch
t vol-resize "$W/d1/r.raw" 8M
t vol-resize f.qcow2 20M orc-d1
t vol-resize f.qcow2 5M orc-d1 --delta
t vol-resize f.qcow2 24M orc-d1 --allocate
t vol-resize f.qcow2 8M orc-d1
t vol-resize f.qcow2 8M orc-d1 --shrink
t vol-resize f.vdi 20M orc-d1
t vol-resize f.qcow 20M orc-d1
t vol-resize f.vmdk 20M orc-d1
t pool-refresh orc-d1
t vol-info f.qcow2 orc-d1
t vol-info f.vdi orc-d1
t vol-info r.raw orc-d1

# ------------------------------------------------------------------ clone, create-from
seq 1 100000 >"$W/data"
truncate -s 1M "$W/data"
seq 1 20000 | sha256sum | head -c 64 >"$W/small"
t vol-upload a.raw "$W/data" orc-d1
settle
t vol-clone a.raw c1.raw orc-d1
t vol-clone a.raw c1.raw orc-d1
t vol-clone --vol a.raw --newname c2.raw --pool=orc-d1
t vol-clone "$W/d1/a.raw" c3.raw
t vol-clone a.raw a.raw orc-d1
t vol-clone nosuch.raw c4.raw orc-d1
t vol-clone a.raw c/4.raw orc-d1
t vol-clone a.raw c4.raw
t vol-clone a.raw c4.raw orc-d1 --prealloc-metadata
L=reflink t vol-clone a.raw c5.raw orc-d1 --reflink
t vol-clone a.raw c6.raw orc-d1 --print-xml
t vol-clone f.qcow2 c7.qcow2 orc-d1
t vol-clone f.qcow2 c8.qcow2 orc-d1 --prealloc-metadata
t vol-clone f.qcow2 c9.qcow2 orc-d1 --reflink
t vol-clone over.qcow2 c10.qcow2 orc-d1
t vol-clone sparse.raw c11.raw orc-d1
t vol-clone f.vdi c12.vdi orc-d1
s 'cmp d1/a.raw d1/c1.raw && cmp d1/a.raw d1/c2.raw && cmp d1/a.raw d1/c3.raw && echo same'
s 'qemu-img compare d1/f.qcow2 d1/c7.qcow2; qemu-img compare d1/over.qcow2 d1/c10.qcow2'
t pool-refresh orc-d1
t vol-list orc-d1
for f in c1.raw c2.raw c7.qcow2 c10.qcow2 c11.raw c12.vdi; do
    t vol-info $f orc-d1
done
t vol-dumpxml c7.qcow2 orc-d1
xml cf1.xml <<'EOF'
<volume><name>cf1.qcow2</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>
EOF
xml cf2.xml <<'EOF'
<volume><name>cf2.raw</name><capacity unit='M'>12</capacity><allocation>0</allocation></volume>
EOF
xml cf3.xml <<'EOF'
<volume><name>cf3.raw</name></volume>
EOF
t vol-create-from orc-d1 "$X/cf1.xml" a.raw
t vol-create-from orc-d1 "$X/cf1.xml" a.raw orc-d1
t vol-create-from orc-d1 "$X/cf1.xml" a.raw orc-d1
t vol-create-from orc-d1 "$X/cf2.xml" "$W/d1/a.raw"
t vol-create-from --pool orc-d1 --file "$X/cf3.xml" --vol f.qcow2 --inputpool orc-d1
t vol-create-from orc-d1 "$X/cf3.xml" nosuch.raw --inputpool orc-d1
t vol-create-from orc-d1 "$X/cf3.xml" a.raw --inputpool nosuch
t vol-create-from nosuch "$X/cf3.xml" a.raw --inputpool orc-d1
t vol-create-from orc-d1 "$X/nosuch.xml" a.raw --inputpool orc-d1
t vol-create-from orc-d1 "$X/e1.xml" a.raw --inputpool orc-d1
t vol-create-from orc-d1 "$X/cf2.xml" a.raw --inputpool orc-d1 --prealloc-metadata
s 'qemu-img compare d1/a.raw d1/cf1.qcow2; cmp -n 1048576 data d1/cf2.raw && stat -c %s d1/cf2.raw'
t pool-refresh orc-d1
t vol-info cf1.qcow2 orc-d1
t vol-info cf2.raw orc-d1
t vol-info cf3.raw orc-d1
t vol-create-as orc-d1 other.raw 1M
t pool-create-as orc-o dir --target "$W/o" --build
t vol-create-from orc-o "$X/cf2.xml" a.raw --inputpool orc-d1
t vol-list orc-o --details
t vol-info other.raw --pool orc-o
t vol-info "$W/d1/other.raw" --pool orc-o
t vol-path "$W/d1/other.raw" orc-o
t vol-delete "$W/d1/other.raw" --pool orc-o
t vol-pool "$W/o/cf2.raw"
t vol-create-as orc-o same.raw 1M
t vol-info same.raw orc-d1
t pool-destroy orc-o
t vol-info "$W/o/same.raw"
s 'ls o'

# ------------------------------------------------------------------ upload, download, wipe
t vol-create-as orc-d1 u.raw 2M
t vol-upload u.raw "$W/data" orc-d1
settle
s 'cmp -n 1048576 data d1/u.raw && echo same; stat -c %s d1/u.raw'
t vol-upload --vol u.raw --file "$W/small" --pool orc-d1 --offset 1048576
settle
s 'tail -c +1048577 d1/u.raw | head -c 64 | cmp - small && echo same'
head -c 100 "$W/data" >"$W/hundred"
t vol-upload u.raw "$W/hundred" --pool orc-d1 --offset 10 --length 100
settle
s 'tail -c +11 d1/u.raw | head -c 100 | cmp -n 100 - data && echo same; sha256sum d1/u.raw'
seq 1 50000 >"$W/solid"
t vol-upload u.raw "$W/solid" orc-d1 --sparse
settle
s 'sha256sum d1/u.raw'
t vol-create-as orc-d1 cut.raw 2M
L=upload-sparse-hole-at-end t vol-upload cut.raw "$W/data" orc-d1 --sparse
settle
L=upload-sparse-hole-at-end s 'stat -c %s d1/cut.raw'
t vol-delete cut.raw orc-d1
t vol-upload u.raw "$W/nosuch" orc-d1
t vol-upload u.raw "$W/d1" orc-d1
t vol-upload nosuch.raw "$W/data" orc-d1
t vol-upload u.raw "$W/data" orc-d1 --offset abc
t vol-upload u.raw "$W/data" orc-d1 --offset -1
t vol-upload u.raw "$W/data" orc-d1 --length abc
t vol-upload u.raw "$W/data" orc-d1 --offset
t vol-upload u.raw "$W/data" orc-d1 --length 104857600
settle
truncate -s 1M "$W/holes"
head -c 1M /dev/urandom | tr '\0' x >"$W/full"
cat "$W/full" >>"$W/holes"
truncate -s 3M "$W/holes"
cat "$W/full" >>"$W/holes"
t vol-create-as orc-d1 us.raw 4M --allocation 0
t vol-upload us.raw "$W/holes" orc-d1 --sparse
settle
s 'cmp holes d1/us.raw && stat -c "%s %b" d1/us.raw'
t vol-download us.raw "$W/us.out" orc-d1 --sparse
s 'cmp d1/us.raw us.out && stat -c "%s %b" us.out'
t vol-info us.raw orc-d1
t vol-delete us.raw orc-d1
# what doesn't fit: volumes of their own, as the sides may differ afterwards
for how in '--offset 4194304' '--offset 1572864' '--offset 10 --length 100'; do
    t vol-create-as orc-d1 past.raw 2M
    # shellcheck disable=SC2086
    L=upload-past-end t vol-upload past.raw "$W/data" orc-d1 $how
    settle
    L=upload-past-end s 'stat -c %s d1/past.raw'
    t vol-delete past.raw orc-d1
done
t pool-refresh orc-d1
t vol-info u.raw orc-d1
t vol-download u.raw "$W/dl1" orc-d1
s 'cmp d1/u.raw dl1 && stat -c "%s %a" dl1'
t vol-download --vol u.raw --file "$W/dl2" --pool=orc-d1 --offset 10 --length 100
s 'tail -c +11 d1/u.raw | head -c 100 | cmp - dl2 && stat -c %s dl2'
t vol-download u.raw "$W/dl2" orc-d1 --offset=1048576
s 'tail -c +1048577 d1/u.raw | cmp - dl2 && stat -c %s dl2'
t vol-download sparse.raw "$W/dl3" orc-d1 --sparse
s 'stat -c "%s %b" dl3'
t vol-download sparse.raw "$W/dl3" orc-d1 --length 4096
s 'stat -c "%s" dl3'
t vol-download u.raw "$W/dl4" orc-d1 --length 0
s 'stat -c "%s" dl4'
t vol-download u.raw "$W/nosuchdir/dl" orc-d1
t vol-download nosuch.raw "$W/dl5" orc-d1
t vol-download u.raw "$W/dl5" orc-d1 --offset 104857600
t vol-download u.raw "$W/dl5" orc-d1 --offset abc
t vol-download u.raw "$W/dl5" orc-d1 --length -5
t vol-download "$W/d1/u.raw" "$W/dl6"
t vol-download f.qcow2 "$W/dl7" orc-d1
s 'cmp d1/f.qcow2 dl7 && echo same'
s 'ls dl*'
t vol-wipe u.raw orc-d1
s 'cmp -n 2097152 d1/u.raw /dev/zero && stat -c "%s %b" d1/u.raw'
t vol-upload u.raw "$W/data" orc-d1
settle
t vol-wipe --vol u.raw --pool orc-d1 --algorithm zero
s 'cmp -n 2097152 d1/u.raw /dev/zero && stat -c %s d1/u.raw'
t vol-wipe u.raw orc-d1 nosuch
t vol-wipe u.raw orc-d1 --algorithm nosuch
t vol-wipe u.raw orc-d1 --algorithm
t vol-wipe u.raw orc-d1 --algorithm trim
t vol-wipe sparse.raw orc-d1
s 'stat -c "%s %b" d1/sparse.raw'
t vol-wipe nosuch.raw orc-d1
t vol-wipe bytes.raw orc-d1 --algorithm random
t vol-wipe "$W/d1/bytes.raw" --algorithm nnsa
s 'stat -c %s d1/bytes.raw'

# ------------------------------------------------------------------ delete
t vol-delete a.raw --pool orc-d1
t vol-delete a.raw --pool orc-d1
t vol-delete "$W/d1/c1.raw"
t vol-delete --vol c2.raw --pool=orc-d1
t vol-delete c3.raw orc-d1 --delete-snapshots
t vol-delete c3.raw orc-d1
t vol-delete nosuch.raw orc-d1
t vol-delete other.raw nosuch
t -q vol-delete other.raw orc-d1
t -q vol-create-as orc-d1 quiet.raw 1M
t -q vol-info quiet.raw orc-d1
t -q vol-path quiet.raw orc-d1
t -q vol-delete quiet.raw orc-d1
t -q vol-delete quiet.raw orc-d1
t pool-refresh orc-d1
t vol-list orc-d1
rm -rf "$W"/d1/* "$W"/d1/.hidden "$W"/dl* "$W"/us.out "$W"/o
t pool-refresh orc-d1
t vol-create-as orc-d1 u.raw 3M
t vol-create-as orc-d1 v.raw 64M --allocation 5M
t pool-refresh orc-d1
t pool-info orc-d1
t pool-info orc-d1 --bytes
t pool-list --details
t pool-dumpxml orc-d1
t pool-dumpxml orc-d1 --inactive --xpath '//capacity | //allocation | //available'
t pool-destroy orc-d1
t vol-info u.raw orc-d1
t vol-list orc-d1
t vol-delete u.raw orc-d1
t vol-path "$W/d1/u.raw"
t vol-clone u.raw c99.raw orc-d1
t vol-upload u.raw "$W/data" orc-d1
t vol-create orc-d1 "$X/v1.xml"
t vol-create-as orc-d1 new.raw 1M
t pool-refresh orc-d1
t pool-delete orc-d1
rm -rf "$W"/d1/* "$W"/d1/.hidden
t pool-delete orc-d1
t pool-start orc-d1
t pool-undefine orc-d1
t pool-undefine orc-d1
t pool-list --all

# ------------------------------------------------------------------ many volumes: order and tables
t pool-create-as orc-many dir --target "$W/many" --build
for f in b A c D e.10 e.9 Zed yed _x 1 10 2; do
    t -q vol-create-as orc-many "$f" 4k --allocation 0
done
t pool-refresh orc-many
t vol-list orc-many
t vol-list orc-many --details
t -q vol-list orc-many
t vol-list "$(printf %s orc-many)" --details surplus
t pool-destroy orc-many
for p in B a C d; do
    t -q pool-define-as orc-$p dir --target "$W/many-$p"
done
t pool-list --all
t pool-list --all --name
t pool-list --all --details
for p in B a C d; do
    t -q pool-undefine orc-$p
done

# ------------------------------------------------------------------ fs pools
t pool-define-as orc-f1 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt1"
t pool-define-as orc-f2 fs - - "$LOOPFS" - "$W/mnt2" ext4
t pool-dumpxml orc-f1
t pool-list --all --type fs
t pool-start orc-f1
t pool-build orc-f1 --overwrite --no-overwrite
t pool-build orc-f1
s 'ls -ld mnt1 | cut -c1-10; blkid -p "$LOOPFS"; echo $?'
t pool-start orc-f1
t pool-build orc-f1 --no-overwrite
s 'blkid -p -o value -s TYPE "$LOOPFS"'
t pool-build orc-f1 --no-overwrite
t pool-build orc-f1 --overwrite
t pool-start orc-f1
s 'grep " $WORK/mnt1 " /proc/mounts | cut -d" " -f2-4'
t pool-start orc-f1
t pool-build orc-f1 --overwrite
t pool-info orc-f1
t pool-info --bytes orc-f1
t pool-dumpxml orc-f1
t pool-list --details --type fs
t vol-list orc-f1
t vol-list orc-f1 --details
t vol-create-as orc-f1 v1.raw 20M
t vol-create-as orc-f1 v2.qcow2 20M --format qcow2 --allocation 0
t vol-create-as orc-f1 huge.raw 1G
t vol-create-as orc-f1 sparse.raw 1G --allocation 0
t vol-resize v1.raw 1G orc-f1 --allocate
t vol-resize v1.raw 30M orc-f1
t vol-clone v1.raw v3.raw orc-f1
t vol-upload v1.raw "$W/data" orc-f1
settle
t pool-refresh orc-f1
t vol-list orc-f1 --details
t vol-info v1.raw orc-f1
t vol-dumpxml v2.qcow2 orc-f1
t vol-path v1.raw orc-f1
t vol-pool "$W/mnt1/v1.raw"
t vol-download v1.raw "$W/fdl" orc-f1 --length 1048576
s 'cmp fdl data && echo same'
t vol-wipe v1.raw orc-f1
t vol-delete v1.raw orc-f1
t vol-delete v3.raw orc-f1
sync -f "$W/mnt1"
t pool-refresh orc-f1
t pool-info orc-f1
t pool-autostart orc-f1
t pool-list --autostart --details
t pool-delete orc-f1
t pool-undefine orc-f1
(cd "$W/mnt1" && exec sleep 600) &
busy=$!
sleep 0.2
L=fs-busy t pool-destroy orc-f1
kill $busy
wait $busy 2>/dev/null
t pool-list --all
t pool-start orc-f1
t pool-refresh orc-f1
t pool-destroy orc-f1
s 'grep -c " $WORK/mnt1 " /proc/mounts; ls mnt1'
t pool-destroy orc-f1
touch "$W/mnt1/stray"
t pool-delete orc-f1
rm "$W/mnt1/stray"
t pool-delete orc-f1
t pool-undefine orc-f1
# the wrong format, no format, xfs
t pool-define-as orc-f2 fs - - "$LOOPFS" - "$W/mnt2" xfs
t pool-build orc-f2 --no-overwrite
t pool-start orc-f2
t pool-start orc-f2 --build
t pool-start orc-f2 --no-overwrite
t pool-build orc-f2 --overwrite
s 'blkid -p -o value -s TYPE "$LOOPFS"'
t pool-start orc-f2
t pool-info orc-f2
t pool-dumpxml orc-f2
t vol-create-as orc-f2 x.raw 8M
t vol-upload x.raw "$W/data" orc-f2
settle
t vol-clone x.raw y.raw orc-f2
L=reflink-xfs t vol-clone x.raw z.raw orc-f2 --reflink
s 'cmp mnt2/x.raw mnt2/y.raw && cmp mnt2/x.raw mnt2/z.raw && echo same'
t vol-list orc-f2
t vol-delete y.raw orc-f2
t vol-info x.raw orc-f2
t pool-destroy orc-f2
t pool-undefine orc-f2
t pool-define-as orc-f3 fs --source-dev "$LOOPFS" --target "$W/mnt3"
t pool-dumpxml orc-f3
t pool-build orc-f3
t pool-build orc-f3 --overwrite
t pool-build orc-f3 --no-overwrite
t pool-start orc-f3
t vol-list orc-f3
t pool-dumpxml orc-f3 --xpath //source
t pool-destroy orc-f3
t pool-undefine orc-f3
t pool-create-as orc-f4 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt4" --no-overwrite
t pool-create-as orc-f4 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt4" --build
t pool-create-as orc-f4 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt4" --overwrite
t pool-list --all --details --type fs
t pool-define-as orc-f4 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt4"
t pool-info orc-f4
t pool-destroy orc-f4
t pool-destroy orc-f4
t pool-define-as orc-f4 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt4"
t pool-start orc-f4
# unmounted behind its back
umount "$W/mnt4"
L=unmounted-behind t pool-list --all
L=unmounted-behind t pool-refresh orc-f4
L=unmounted-behind t vol-list orc-f4
L=unmounted-behind t pool-destroy orc-f4
t pool-info orc-f4
t pool-undefine orc-f4
mount -t ext4 "$LOOPFS" "$W/mnt4"
t pool-create-as orc-f5 fs --source-dev "$LOOPFS" --source-format ext4 --target "$W/mnt4"
t pool-info orc-f5 --bytes
t pool-destroy orc-f5
s 'grep -c " $WORK/mnt4 " /proc/mounts'
# devices that are not there, options and formats
t pool-define-as orc-f6 fs --source-dev /dev/nosuch --source-format ext4 --target "$W/mnt6"
t pool-build orc-f6
t pool-build orc-f6 --overwrite
t pool-build orc-f6 --no-overwrite
t pool-start orc-f6
t pool-start orc-f6 --overwrite
t pool-undefine orc-f6
t pool-create-as orc-f6 fs --source-dev /dev/null --source-format ext4 --target "$W/mnt6b"
t pool-create-as orc-f6 fs --source-dev /dev/null --source-format ext4 --target "$W/mnt6b" --build
t pool-list --all
xml fsopts.xml <<EOF
<pool type='fs' xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'>
  <name>orc-f7</name>
  <source><device path='$LOOPFS'/><format type='ext4'/><vendor name='V'/><product name='P'/></source>
  <target><path>$W/mnt7</path></target>
  <fs:mount_opts><fs:option name='noatime'/><fs:option name='sync'/></fs:mount_opts>
</pool>
EOF
t pool-define "$X/fsopts.xml"
t pool-dumpxml orc-f7
t pool-start orc-f7 --build
s 'grep " $WORK/mnt7 " /proc/mounts | grep -c noatime'
t pool-destroy orc-f7
t pool-undefine orc-f7
xml fs2dev.xml <<EOF
<pool type='fs'><name>orc-f8</name>
  <source><device path='$LOOPFS'/><device path='$LOOPDISK1'/></source>
  <target><path>$W/mnt8</path></target></pool>
EOF
t pool-define "$X/fs2dev.xml"
t pool-build orc-f8
t pool-start orc-f8
t pool-undefine orc-f8
for f in ext2 ext3; do
    t pool-create-as "orc-$f" fs - - "$LOOPFS" - "$W/mnt-$f" $f --build --overwrite
    t pool-info "orc-$f"
    t pool-destroy "orc-$f"
done
wipefs -q -a "$LOOPFS"
for f in vfat ocfs2; do
    t pool-define-as "orc-$f" fs - - "$LOOPFS" - "$W/mnt-$f" $f
    t pool-build "orc-$f" --no-overwrite
    t pool-build "orc-$f" --overwrite
    t pool-undefine "orc-$f"
done
s 'blkid -p -o value -s TYPE "$LOOPFS"'
t pool-list --all
wipefs -q -a "$LOOPFS"

# ------------------------------------------------------------------ disk: gpt
# rebuilt POOL: the same empty table for both sides again, whatever went before
rebuilt() {
    t -q pool-destroy "$1"
    t -q pool-build "$1" --overwrite
    t -q pool-start "$1"
}
t pool-define-as orc-g disk --source-dev "$LOOPDISK1" --source-format gpt --target /dev
t pool-define-as orc-g2 disk - - "$LOOPDISK1" - /dev
t pool-define-as orc-g2 fs - - "$LOOPDISK1" - "$W/mnt-g2"
t pool-dumpxml orc-g
t pool-start orc-g
t pool-build orc-g --overwrite --no-overwrite
t pool-build orc-g --no-overwrite
s 'parted -s -m "$LOOPDISK1" print | sed -n 2p | cut -d: -f6; ls -d "$LOOPDISK1"*'
t pool-build orc-g --no-overwrite
t pool-build orc-g
t pool-build orc-g --overwrite
t pool-start orc-g
t pool-start orc-g
t pool-build orc-g --overwrite
t pool-list --all
t vol-list orc-g
t vol-list orc-g --details
L=gpt-size t pool-info orc-g
L=gpt-size t pool-info orc-g --bytes
L=gpt-size t pool-dumpxml orc-g
t vol-create-as orc-g "${D1}p1" 16M
t vol-create-as orc-g "${D1}p1" 16M
t vol-create-as orc-g "${D1}p2" 32M --format linux-swap
t vol-create-as orc-g "${D1}p3" 32M --format ext2
t vol-create-as orc-g "${D1}p3" 32M --format qcow2
t vol-create-as orc-g "${D1}p3" 8M --format none
t vol-create-as orc-g "${D1}p4" 0
t vol-create-as orc-g "${D1}p4" 10X
t vol-create-as orc-g "${D1}p4" 8M --allocation 0 --print-xml
t pool-refresh orc-g
t vol-list orc-g
s 'ls -d "$LOOPDISK1"p*; parted -s -m "$LOOPDISK1" unit MiB print | cut -d: -f1,6,7'
t vol-path "${D1}p1" orc-g
t vol-path --pool orc-g "${D1}p2"
t vol-key "${D1}p1" orc-g
t vol-key "${LOOPDISK1}p1"
t vol-name "${LOOPDISK1}p1"
t vol-pool "${LOOPDISK1}p1"
t vol-info "${D1}p9" orc-g
t vol-path "${D1}p9" orc-g
t vol-list orc-g --details
t vol-info "${D1}p1" orc-g
t vol-info "${D1}p1" orc-g --bytes
t vol-info "${LOOPDISK1}p2" --physical
L=gpt-size t vol-dumpxml "${D1}p1" orc-g
L=gpt-size t vol-dumpxml "${D1}p2" orc-g
L=gpt-size t pool-dumpxml orc-g
L=gpt-size t pool-info orc-g
L=gpt-size t pool-list --details
t vol-dumpxml "${D1}p1" orc-g --xpath //target/format
t vol-dumpxml "${D1}p1" orc-g --xpath '//name | //key'
t vol-dumpxml "${D1}p1" orc-g --xpath '//capacity | //allocation | //physical'
t vol-dumpxml "${D1}p1" orc-g --xpath '//target/permissions' --wrap
t vol-resize "${D1}p1" 32M orc-g
t vol-upload "${D1}p1" "$W/data" orc-g
settle
s 'head -c 1048576 "${LOOPDISK1}p1" | cmp - data && echo same'
t vol-upload "${D1}p1" "$W/small" orc-g --offset 4096 --length 64
settle
t vol-download "${D1}p1" "$W/gdl" orc-g --offset 4096 --length 64
s 'cmp gdl small && echo same'
t vol-download "${D1}p1" "$W/gdl" orc-g --length 1048576 --sparse
s 'head -c 1048576 "${LOOPDISK1}p1" | cmp - gdl && echo same'
t pool-refresh orc-g
t vol-clone "${D1}p1" "${D1}p4" orc-g
s 'cmp -n 16777216 "${LOOPDISK1}p1" "${LOOPDISK1}p4" && echo same'
t pool-refresh orc-g
t vol-list orc-g
t vol-wipe "${D1}p1" orc-g
s 'cmp -n 16777216 "${LOOPDISK1}p1" /dev/zero && echo zero'
t vol-wipe "${D1}p1" orc-g --algorithm bogus
t pool-create-as orc-dd dir --target "$W/dd" --build
t vol-create-as orc-dd src.raw 4M
t vol-upload src.raw "$W/data" orc-dd
settle
xml g5.xml <<EOF
<volume><name>${D1}p5</name><capacity unit='MiB'>8</capacity></volume>
EOF
t vol-create-from orc-g "$X/g5.xml" src.raw --inputpool orc-dd
s 'cmp -n 1048576 "${LOOPDISK1}p5" data && echo same'
xml dd.xml <<EOF
<volume><name>back.raw</name><capacity>0</capacity></volume>
EOF
t vol-create-from orc-dd "$X/dd.xml" "${D1}p5" --inputpool orc-g
s 'cmp -n 1048576 dd/back.raw data && stat -c %s dd/back.raw'
t pool-destroy orc-dd
t pool-destroy orc-g
t vol-list orc-g
t pool-start orc-g
t vol-list orc-g
t pool-delete orc-g
t pool-undefine orc-g
t vol-delete "${D1}p9" orc-g
L=disk-vol-delete t vol-delete "${D1}p2" orc-g
L=disk-vol-delete t vol-delete "${LOOPDISK1}p1"
rebuilt orc-g
t vol-list orc-g
# wrong names and sizes; virsh can't take a half-made partition away either (same bug)
L=disk-wrong-name t vol-create-as orc-g wrong 16M
rebuilt orc-g
L=disk-wrong-name t vol-create-as orc-g "${D1}p3" 16M
rebuilt orc-g
L=disk-wrong-name t vol-create-as orc-g "${D1}p01" 16M
rebuilt orc-g
L=disk-too-large t vol-create-as orc-g "${D1}p1" 4G
rebuilt orc-g
L=disk-too-large t vol-create-as orc-g "${D1}p1" 256M
rebuilt orc-g
L=disk-extended-gpt t vol-create-as orc-g "${D1}p1" 32M --format extended
rebuilt orc-g
t vol-create-as orc-g "${D1}p1" 64M
xml g2.xml <<EOF
<volume><name>${D1}p2</name><capacity unit='MiB'>32</capacity><target><format type='linux-lvm'/></target></volume>
EOF
t vol-create orc-g "$X/g2.xml"
xml g3.xml <<EOF
<volume><name>${D1}p3</name><capacity unit='MiB'>16</capacity><target><format type='zz'/></target></volume>
EOF
t vol-create orc-g "$X/g3.xml"
t vol-create orc-g "$X/e2.xml"
t vol-create orc-g "$X/e3.xml"
t pool-refresh orc-g
t vol-list orc-g
t vol-dumpxml "${D1}p2" orc-g --xpath //target/format
L=disk-wrong-name t vol-clone "${D1}p1" other orc-g
rebuilt orc-g
L=disk-prealloc t vol-create-as orc-g "${D1}p1" 8M --prealloc-metadata
t pool-destroy orc-g
t pool-delete orc-g
s 'blkid -p "$LOOPDISK1"; echo $?'
t pool-start orc-g
t pool-list --all
t pool-undefine orc-g

# ------------------------------------------------------------------ disk: dos
t pool-define-as orc-m disk --source-dev "$LOOPDISK2" --source-format dos --target /dev
t pool-build orc-m
t pool-dumpxml orc-m --xpath //source/format
t pool-start orc-m
L=dos-size t pool-info orc-m
t vol-create-as orc-m "${D2}p1" 16M
t vol-create-as orc-m "${D2}p2" 16M --format linux
t vol-create-as orc-m "${D2}p3" 16M --format fat32
t vol-create-as orc-m "${D2}p4" 64M --format extended
t vol-create-as orc-m "${D2}p5" 8M
t vol-create-as orc-m "${D2}p6" 8M --format linux-swap
t pool-refresh orc-m
t vol-list orc-m
s 'ls -d "$LOOPDISK2"p*; parted -s -m "$LOOPDISK2" print | tail -n +3 | cut -d: -f1,7'
L=dos-size t vol-list orc-m --details
L=dos-size t vol-info "${D2}p1" orc-m
L=dos-size t vol-dumpxml "${D2}p1" orc-m
L=dos-size t vol-dumpxml "${D2}p4" orc-m
L=dos-size t vol-dumpxml "${D2}p5" orc-m
L=dos-size t pool-dumpxml orc-m
for n in 1 2 3 4 5 6; do
    t vol-dumpxml "${D2}p$n" orc-m --xpath //target/format
    t vol-path "${D2}p$n" orc-m
done
t vol-wipe "${D2}p4" orc-m
t vol-wipe "${D2}p5" orc-m
t vol-upload "${D2}p5" "$W/data" orc-m
settle
s 'head -c 1048576 "${LOOPDISK2}p5" | cmp - data && echo same'
t vol-resize "${D2}p5" 1M orc-m --shrink
L=disk-second-extended t vol-create-as orc-m "${D2}p7" 8M --format extended
t pool-refresh orc-m
L=disk-too-large t vol-create-as orc-m "${D2}p7" 128M
t pool-refresh orc-m
L=disk-wrong-name t vol-create-as orc-m "${D2}p9" 8M
L=disk-vol-delete t vol-delete "${D2}p6" orc-m
rebuilt orc-m
# without an extended partition there is no fifth one
for n in 1 2 3 4; do
    t -q vol-create-as orc-m "${D2}p$n" 8M
done
t pool-refresh orc-m
t vol-list orc-m
L=disk-no-extended t vol-create-as orc-m "${D2}p5" 8M
t pool-destroy orc-m
t pool-undefine orc-m
# a table that doesn't match, no format, other formats, no device, foreign partitions
t pool-create-as orc-m2 disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev
t pool-create-as orc-m2 disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev --build
t pool-create-as orc-m2 disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev --no-overwrite
t pool-list --all
t pool-create-as orc-m2 disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev --overwrite
t vol-list orc-m2
t pool-destroy orc-m2
wipefs -q -a "$LOOPDISK2"
parted -s "$LOOPDISK2" mklabel msdos mkpart primary ext2 1MiB 17MiB \
    mkpart extended 17MiB 100MiB mkpart logical linux-swap 18MiB 34MiB
t pool-create-as orc-m3 disk --source-dev "$LOOPDISK2" --target /dev
t pool-list --all
t pool-create-as orc-m3 disk --source-dev "$LOOPDISK2" --source-format dos --target /dev
t vol-list orc-m3
L=foreign-table t vol-list orc-m3 --details
t vol-info "${D2}p1" orc-m3
t vol-info "${D2}p1" orc-m3 --bytes
t vol-info "${D2}p5" orc-m3 --bytes
L=foreign-table t vol-info "${D2}p2" orc-m3 --bytes
t vol-dumpxml "${D2}p1" orc-m3
t vol-dumpxml "${D2}p5" orc-m3
L=foreign-table t vol-dumpxml "${D2}p2" orc-m3
L=foreign-table t pool-info orc-m3 --bytes
L=foreign-table t pool-dumpxml orc-m3
t pool-destroy orc-m3
wipefs -q -a "$LOOPDISK2"
parted -s "$LOOPDISK2" mklabel gpt mkpart one ext4 1MiB 17MiB mkpart two xfs 20MiB 36MiB
t pool-create-as orc-m3 disk --source-dev "$LOOPDISK2" --target /dev
t pool-create-as orc-m3 disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev
t vol-list orc-m3 --details
t vol-dumpxml "${D2}p2" orc-m3
L=foreign-table t pool-dumpxml orc-m3
L=foreign-table t pool-info orc-m3 --bytes
t pool-destroy orc-m3
t pool-define-as orc-m4 disk --source-dev "$LOOPDISK2" --target /dev
t pool-dumpxml orc-m4
t pool-start orc-m4
t pool-build orc-m4
t pool-build orc-m4 --overwrite
t pool-dumpxml orc-m4 --xpath //source/format
t pool-start orc-m4
t pool-dumpxml orc-m4 --xpath //source/format
t vol-list orc-m4
t pool-destroy orc-m4
t pool-delete orc-m4
t pool-undefine orc-m4
t pool-define-as orc-m5 disk --source-dev /dev/nosuch --source-format gpt --target /dev
t pool-build orc-m5
t pool-build orc-m5 --overwrite
t pool-start orc-m5
t pool-delete orc-m5
t pool-undefine orc-m5
mkfs.ext4 -q -F "$LOOPDISK2"
t pool-define-as orc-m6 disk --source-dev "$LOOPDISK2" --source-format gpt --target /dev
t pool-start orc-m6
t pool-build orc-m6
t pool-build orc-m6 --no-overwrite
t pool-build orc-m6 --overwrite
t pool-start orc-m6
t vol-list orc-m6 --details
t pool-destroy orc-m6
t pool-delete orc-m6
t pool-undefine orc-m6
for f in sun mac bsd dvh pc98 lvm2; do
    dd if=/dev/zero of="$LOOPDISK2" bs=1M count=2 conv=notrunc,fsync status=none
    t pool-define-as orc-m7 disk --source-dev "$LOOPDISK2" --source-format $f --target /dev
    t pool-build orc-m7
    t pool-start orc-m7
    t pool-list --all
    t pool-destroy orc-m7
    t pool-undefine orc-m7
done
t pool-list --all

# ------------------------------------------------------------------ every option, success and failure
# (test_coverage.py tells what is missing)
for how in --transient --persistent --autostart --no-autostart; do
    t pool-list $how --type bogus
done
t pool-info nosuch --bytes
t pool-dumpxml nosuch --xpath //name --wrap
mkdir "$W/as"
forget() {
    t pool-destroy "$1"
    t pool-undefine "$1"
}
for how in pool-create-as pool-define-as; do
    as() { t $how orc-as "$1" --target "$W/as" "${@:2}"; }
    kept() {
        as dir "$@"
        t pool-dumpxml orc-as --xpath '//source | //target'
        forget orc-as
    }
    kept --source-host h --source-path /p --source-name n --source-dev /dev/nosuch \
        --source-format raw
    kept --source-initiator iqn.i --auth-type chap --auth-username u --secret-usage s
    kept --source-name n --auth-type ceph --auth-username u --secret-uuid "$U1"
    kept --auth-type bogus --auth-username u --secret-usage s
    kept --adapter-name scsi_host1 --source-initiator iqn.i
    kept --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent scsi_host1
    kept --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent-wwnn 2000000000000003 --adapter-parent-wwpn 2000000000000004
    kept --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent-fabric-wwn 2000000000000005
    kept --source-protocol-ver 4
    kept --source-host h --source-protocol-ver 4
    as dir --auth-type chap --auth-username u --secret-usage s --secret-uuid "$U1"
    as dir --source-name n --auth-type bogus --auth-username u --secret-usage s
    as dir --source-name n --auth-type chap --auth-username '<' --secret-usage s
    as dir --source-name n --auth-type chap --auth-username u --secret-uuid bogus
    for option in source-host source-path source-dev source-name source-format source-initiator \
        adapter-name; do
        as dir "--$option" '<'
    done
    as fs --source-dev /dev/nosuch --source-format bogus
    as netfs --source-host h --source-path /p --source-protocol-ver '<'
    as netfs --source-host h --source-path /p --source-protocol-ver 4 --print-xml
    as scsi --adapter-wwnn 2000000000000001 --adapter-wwpn bogus
    as scsi --adapter-wwnn bogus --adapter-wwpn 2000000000000002
    as scsi --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent-wwnn bogus --adapter-parent-wwpn 2000000000000004
    as scsi --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent-wwnn 2000000000000003 --adapter-parent-wwpn '<'
    as scsi --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent '<'
    as scsi --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent-fabric-wwn '<'
    as scsi --print-xml --adapter-wwnn 2000000000000001 --adapter-wwpn 2000000000000002 \
        --adapter-parent-wwnn 2000000000000003 --adapter-parent-wwpn 2000000000000004 \
        --adapter-parent-fabric-wwn 2000000000000005
done
t pool-list --all

xml plain.xml <<EOF
<pool type='dir'><name>orc-plain</name><target><path>$W/as</path></target></pool>
EOF
sed 's/orc-plain/orc-second/' "$X/plain.xml" >"$X/second.xml"
t pool-define --validate "$X/plain.xml"
t pool-define "$X/second.xml" --validate
t pool-define --validate --file "$X/nosuch.xml"
t pool-undefine orc-plain

dd if=/dev/zero of="$LOOPFS" bs=1M count=2 conv=notrunc,fsync status=none
xml opt-fs.xml <<EOF
<pool type='fs'><name>orc-of</name>
<source><device path='$LOOPFS'/><format type='ext4'/></source><target><path>$W/of</path></target></pool>
EOF
t pool-create "$X/opt-fs.xml" --no-overwrite
t pool-destroy orc-of
t pool-create "$X/opt-fs.xml" --no-overwrite
t pool-create "$X/opt-fs.xml" --overwrite
t pool-destroy orc-of
dd if=/dev/zero of="$LOOPFS" bs=1M count=2 conv=notrunc,fsync status=none
t pool-create-as orc-of fs - - "$LOOPFS" - "$W/of" ext4 --no-overwrite
t pool-destroy orc-of
t pool-define "$X/opt-fs.xml"
t pool-start orc-of --no-overwrite
t pool-start orc-of --overwrite
t pool-destroy orc-of
dd if=/dev/zero of="$LOOPFS" bs=1M count=2 conv=notrunc,fsync status=none
t pool-start orc-of --no-overwrite
t pool-destroy orc-of
t pool-undefine orc-of
t pool-create-as orc-of fs - - "$LOOPFS" - "$W/of" xfs --overwrite
t vol-create-as orc-of x.raw 8M
xml copy.xml <<<"<volume><name>copy</name></volume>"
L=reflink-xfs t vol-create-from orc-of "$X/copy.xml" x.raw orc-of --reflink
t pool-destroy orc-of
dd if=/dev/zero of="$LOOPFS" bs=1M count=2 conv=notrunc,fsync status=none

t pool-create-as orc-op dir --target "$W/op" --build
xml prealloc.xml <<'EOF'
<volume><name>meta.qcow2</name><capacity unit='MiB'>4</capacity><allocation>0</allocation>
<target><format type='qcow2'/></target></volume>
EOF
t vol-create orc-op "$X/prealloc.xml" --prealloc-metadata
t vol-create-as orc-op a.raw 4M --allocation 0
sed 's/meta/from/' "$X/prealloc.xml" >"$X/from.xml"
t vol-create-from orc-op "$X/from.xml" a.raw orc-op --prealloc-metadata
L=reflink t vol-create-from orc-op "$X/copy.xml" a.raw orc-op --reflink
t vol-create orc-op --validate "$X/e1.xml"
t vol-create orc-op --validate "$X/nosuch.xml"
t vol-create-from orc-op --validate "$X/nosuch.xml" a.raw orc-op
t vol-clone nosuch.raw b.raw orc-op --print-xml
t vol-download nosuch.raw "$W/got" orc-op --sparse --length 1
t vol-download a.raw "$W/got" orc-op --length bogus
t vol-upload nosuch.raw "$W/data" orc-op --sparse
t vol-dumpxml nosuch.raw orc-op --xpath //name --wrap
t vol-info nosuch.raw orc-op --bytes
t vol-info nosuch.raw orc-op --bytes --physical
t vol-key nosuch.raw orc-op
t vol-key --vol a.raw --pool nosuch
t vol-pool nosuch.raw --uuid
t vol-resize a.raw 1X orc-op --delta
t vol-resize nosuch.raw 1M orc-op --delta --allocate --shrink
t pool-refresh orc-op
t vol-list orc-op
t pool-destroy orc-op

# ------------------------------------------------------------------ sources
# the only devices LVM sees are LOOPDISK2: sandbox.sh
wipefs -q -a "$LOOPDISK2"
vgcreate -q -q orcvg "$LOOPDISK2" >/dev/null
xml source.xml <<<"<source><host name='h'/></source>"
for find in find-storage-pool-sources find-storage-pool-sources-as; do
    t $find
    t $find logical
    t -q $find --type logical
    t $find dir
    t $find bogus
    t $find netfs
    t $find iscsi
    t -r $find logical
done
t find-storage-pool-sources logical "$X/source.xml"
t find-storage-pool-sources dir --srcSpec "$X/source.xml"
t find-storage-pool-sources logical "$X/nosuch.xml"
t find-storage-pool-sources-as logical h 1 iqn.i
t find-storage-pool-sources-as --type logical --host h --port 1 --initiator iqn.i
t find-storage-pool-sources-as dir --host h --port 1 --initiator iqn.i
t find-storage-pool-sources-as iscsi --port 1 --initiator iqn.i
vgremove -q -q orcvg >/dev/null
t find-storage-pool-sources logical
t find-storage-pool-sources-as logical

# ------------------------------------------------------------------ secrets
t secret-list
t -q secret-list
xml secret1.xml <<EOF
<secret ephemeral='no' private='no'>
  <uuid>$U1</uuid><description>one</description>
  <usage type='iscsi'><target>orc-one</target></usage>
</secret>
EOF
xml secret2.xml <<EOF
<secret ephemeral='yes' private='yes'><uuid>$U2</uuid>
<usage type='volume'><volume>$W/as/a.raw</volume></usage></secret>
EOF
sed "s/$U1/$U3/" "$X/secret1.xml" >"$X/secret3.xml"
t secret-define
t secret-define "$X/nosuch.xml"
t secret-define --file "$X/secret1.xml" --validate
t secret-define "$X/secret1.xml"
t secret-define "$X/secret2.xml"
t secret-define "$X/secret3.xml" --validate
t secret-define "$X/e1.xml"
t secret-list
t -q secret-list
for option in --ephemeral --no-ephemeral --private --no-private; do
    t secret-list $option
    t -c bogus:/// secret-list $option
done
t secret-list --ephemeral --no-ephemeral --private
t secret-list surplus
t secret-dumpxml "$U1"
t secret-dumpxml --secret "$U2"
t secret-dumpxml "$U1" --xpath //usage --wrap
t secret-dumpxml "$U3" --xpath //usage --wrap
t secret-dumpxml nosuch
t secret-get-value "$U1"
t secret-get-value "$U1" --plain
printf 'a value' >"$W/plain"
printf 'YW5vdGhlcg==' >"$W/coded"
t secret-set-value "$U1"
t secret-set-value "$U1" YSBzZWNyZXQ=
t secret-get-value "$U1"
t secret-get-value --secret "$U1" --plain
t secret-set-value "$U1" --file "$W/coded"
t secret-get-value "$U1" --plain
t secret-set-value "$U1" --file "$W/plain" --plain
t secret-get-value "$U1"
IN=$'from stdin\n' t secret-set-value "$U1" --interactive
t secret-get-value "$U1" --plain
t secret-set-value "$U2" --base64 YSBzZWNyZXQ=
t secret-get-value "$U2"
t secret-set-value "$U1" --file "$W/plain" --base64 YQ==
t secret-set-value "$U1" --plain --base64 YQ==
t secret-set-value "$U1" --interactive --base64 YQ==
t secret-set-value "$U1" --interactive --plain
t secret-set-value "$U1" --interactive --file "$W/plain"
t secret-set-value "$U1" --file "$W/nosuch"
t secret-set-value "$U1" --file "$W/nosuch" --plain
t secret-set-value nosuch --base64 YQ==
t secret-undefine nosuch
t secret-undefine "$U1"
t secret-undefine --secret "$U2"
t secret-undefine "$U2"
t secret-list

# ------------------------------------------------------------------ encrypted volumes
mkdir "$W/luks"
t pool-create-as orc-luks dir --target "$W/luks"
luks() { # ATTRIBUTES CIPHER...: an <encryption> with one secret
    echo "<encryption format='luks'><secret type='passphrase' $1/>${*:2}</encryption>"
}
encrypted() { # NAME FORMAT ENCRYPTION OPTION...
    xml luks.xml <<<"<volume><name>$1</name><capacity>1048577</capacity><allocation>0</allocation>
        <target><format type='$2'/>$3</target></volume>"
    L=luks t vol-create orc-luks "$X/luks.xml" "${@:4}"
}
copied() { # NAME FORMAT ENCRYPTION SOURCE
    xml luks.xml <<<"<volume><name>$1</name><capacity>0</capacity><allocation>0</allocation>
        <target><format type='$2'/>$3</target></volume>"
    L=luks t vol-create-from orc-luks "$X/luks.xml" "$4"
}
xml secret1.xml <<EOS
<secret private='yes'><uuid>$U1</uuid>
<usage type='volume'><volume>$W/luks/a.raw</volume></usage></secret>
EOS
xml secret2.xml <<EOS
<secret ephemeral='yes' private='yes'><uuid>$U2</uuid>
<usage type='volume'><volume>orc other</volume></usage></secret>
EOS
xml secret3.xml <<<"<secret><uuid>$U3</uuid><usage type='iscsi'><target>orc</target></usage></secret>"
for number in 1 2 3; do
    t secret-define "$X/secret$number.xml"
done
t secret-set-value "$U1" --file "$W/plain" --plain
t secret-set-value "$U3" --file "$W/plain" --plain
encrypted no raw "$(luks "usage='orc other'")"
t secret-set-value "$U2" --file "$W/coded" --plain
encrypted a.raw raw "$(luks "uuid='$U1'")"
encrypted b.qcow2 qcow2 "$(luks "usage='orc other'" \
    "<cipher name='aes' size='128' mode='cbc' hash='sha1'/><ivgen name='essiv' hash='sha256'/>")"
t vol-info a.raw orc-luks --bytes
t vol-info b.qcow2 orc-luks --bytes
t pool-refresh orc-luks
for volume in a.raw b.qcow2; do
    t vol-info $volume orc-luks --bytes
    t vol-dumpxml $volume orc-luks
done
t vol-list orc-luks --details
encrypted no raw "<encryption format='luks'/>"
encrypted no raw "<encryption format='luks'><secret type='passphrase' uuid='$U1'/>
    <secret type='passphrase' uuid='$U2'/></encryption>"
encrypted no raw "$(luks "uuid='$UNONE'")"
encrypted no raw "$(luks "usage='nosuch'")"
encrypted no raw "$(luks "usage='orc'")"
encrypted no raw "$(luks "uuid='$U3'")"
encrypted no raw "<encryption format='luks' engine='librbd'><secret type='passphrase' uuid='$UNONE'/></encryption>"
encrypted no raw "$(luks "uuid='$U1'")<compat>1.1</compat>"
encrypted no raw "$(luks "uuid='$U1'")" --prealloc-metadata
encrypted no qcow "$(luks "uuid='$U1'")"
encrypted no vmdk "$(luks "uuid='$U1'")"
encrypted folder dir "$(luks "uuid='$U1'")"
for kind in default qcow luks2; do
    for format in raw qcow qcow2 vdi; do
        encrypted no $format "<encryption format='$kind'><secret type='passphrase' uuid='$U1'/></encryption>"
    done
done
xml luks.xml <<<"<volume><name>no</name><capacity>1</capacity><target>$(luks "uuid='$U1'")</target>
    <backingStore><path>$W/luks/a.raw</path></backingStore></volume>"
t vol-create orc-luks "$X/luks.xml"
t vol-resize a.raw 2M orc-luks
t vol-resize a.raw 3M orc-luks --allocate
t vol-resize a.raw 1M orc-luks
t vol-resize b.qcow2 2M orc-luks
t vol-resize b.qcow2 2M orc-luks --allocate
t vol-info a.raw orc-luks --bytes
t vol-clone a.raw clone orc-luks --reflink
t vol-clone a.raw clone orc-luks --prealloc-metadata
t vol-clone a.raw clone orc-luks
t vol-clone b.qcow2 no orc-luks
t pool-refresh orc-luks
t vol-dumpxml clone orc-luks
t vol-info clone orc-luks --bytes
copied open qcow2 "" "$W/luks/a.raw"
copied no qcow2 "" "$W/luks/b.qcow2"
copied no dir "$(luks "uuid='$U1'")" "$W/luks/a.raw"
copied no raw "<encryption format='luks2'><secret type='passphrase' uuid='$U1'/></encryption>" "$W/luks/a.raw"
t pool-refresh orc-luks
t vol-info open orc-luks --bytes
t vol-list orc-luks
t vol-wipe clone orc-luks
t pool-refresh orc-luks
t vol-dumpxml clone orc-luks --xpath //encryption
t secret-undefine "$U1"
t vol-dumpxml a.raw orc-luks
t pool-refresh orc-luks
t vol-dumpxml a.raw orc-luks --xpath //encryption
t vol-resize a.raw 3M orc-luks
for volume in a.raw b.qcow2 open clone folder; do
    t vol-delete $volume orc-luks
done
t secret-undefine "$U2"
t secret-undefine "$U3"
t pool-destroy orc-luks

# ------------------------------------------------------------------ words
t -t pool-list --all
words=('zwei Wörter' ' blank' 'e'$'\u0301''tude' '한국어' '日本語の' 'नमस्ते' 'ไทยกำ' '👩'$'\u200d''👧' '❤'$'\ufe0f'
    '👍🏽' $'soft\u00adhyphen' $'wide\u3000space' $'zero\u200bwidth' 'a\x2db' 'a\nb' 'Ωmega' 'öl' 'OEL' 'ﬁ')
for word in "${words[@]}"; do
    N0=$((${N0:-0} + 1))
    t pool-define-as "$word" dir --target "$W/words-$N0"
done
t pool-list --all
t pool-list --all --details
t pool-list --all --name
t -q pool-list --all
for word in "${words[@]}"; do
    t pool-info "$word"
    t pool-undefine "$word"
done
t pool-create-as 'ein Vörrat 日本' dir --target "$W/ein Vörrat 日本" --build
t vol-list 'ein Vörrat 日本'
t vol-list 'ein Vörrat 日本' --details
t -q vol-list 'ein Vörrat 日本'
t -q vol-list 'ein Vörrat 日本' --details
for word in "${words[@]}"; do
    t vol-create-as 'ein Vörrat 日本' "$word" 4k --allocation 0
done
t pool-refresh 'ein Vörrat 日本'
t vol-list 'ein Vörrat 日本'
t vol-list 'ein Vörrat 日本' --details
t -q vol-list 'ein Vörrat 日本'
for word in "${words[@]}"; do
    t vol-info "$word" 'ein Vörrat 日本'
    t vol-path "$word" --pool 'ein Vörrat 日本'
    t vol-dumpxml "$word" 'ein Vörrat 日本' --xpath //name
    t vol-delete "$word" 'ein Vörrat 日本'
done
t vol-info 'nicht da 日本' 'ein Vörrat 日本'
t vol-create-as 'ein Vörrat 日本' 'nicht/da 日本' 1M
t "vol-create-as 'ein Vörrat 日本' 'ab cd' 1M; vol-list \"ein Vörrat 日本\"; vol-delete ab\\ cd 'ein Vörrat 日本'"
t pool-info 'ein Vörrat 日本x'
t pool-destroy 'ein Vörrat 日本'
t pool-destroy 'ein Vörrat 日本'
# what is no character
mkdir "$W/bytes"
touch "$W/bytes/"$'caf\xe9' "$W/bytes/"$'c1\u009b' "$W/bytes/"$'turned\u202e' \
    "$W/bytes/"$'line\u2028' "$W/bytes/"$'del\x7f'
t pool-create-as orc-bytes dir --target "$W/bytes"
L=bytes t vol-list orc-bytes
t vol-path $'caf\xe9' orc-bytes
L=bytes t vol-info $'caf\xe9' orc-bytes
rm "$W"/bytes/*
touch "$W/bytes/"$'tab\t'
t pool-refresh orc-bytes
L=control-character t vol-list orc-bytes
L=control-character t vol-path $'tab\t' orc-bytes
rm "$W"/bytes/*
t pool-refresh orc-bytes
t vol-create-as orc-bytes 'ü 日本' 4k --allocation 0
L=c-locale LC_ALL=C t vol-list orc-bytes
LC_ALL=C t vol-info 'ü 日本' orc-bytes
LC_ALL=C t vol-info 'ö 日本' orc-bytes
t pool-destroy orc-bytes
# --timing
t -t pool-list
t -t -q pool-list
t -t pool-info nosuch
t -q -t pool-info nosuch
t --timing 'pool-list; pool-info nosuch; pool-list --name'

# ------------------------------------------------------------------ the program's own options
t -q pool-list --all
t --quiet pool-list
t --nosuchoption pool-list
exit 0
