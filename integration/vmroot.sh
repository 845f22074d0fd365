#!/usr/bin/env bash
# Makes the root of the guests that our own tests run in: an ext4 image of
# Debian packages that this machine has installed (scripts/packages.txt and what
# a system needs), copied from it. Takes seconds, fetches nothing.
#
#   integration/vmroot.sh IMAGE
#
# Needs Debian. For an ordinary user everything in it belongs to root, in a user
# namespace while it is made, and what that user may not read is not in it.
set -euo pipefail
image=$(realpath -m "${1:?usage: integration/vmroot.sh IMAGE}")
if [ "$(id -u)" != 0 ]; then exec unshare --map-root-user "$0" "$image"; fi
cd "$(dirname "$0")/.."

# What is not worth its place in a guest: it is used here, to build and to compare.
mapfile -t packages < <(awk '!/^#/ && NF { print $1 }' scripts/packages.txt | grep -Ev 'arm64|aarch64|qemu|shellcheck|ca-certificates|debootstrap|mmdebstrap|^make$|^npm$|^vagrant$')
packages+=(bash dash coreutils util-linux mount findutils grep sed mawk tar gzip libc-bin base-files base-passwd login passwd hostname procps)
mapfile -t installed < <(apt-cache depends --recurse --installed --important --no-recommends --no-suggests "${packages[@]}" 2>/dev/null | grep '^[a-z0-9]' | sort -u | xargs dpkg-query -W -f '${db:Status-Status} ${Package}:${Architecture}\n' 2>/dev/null | sed -n 's/^installed //p' | sed 's/:all$//' | grep -Ev '^(gcc-.*-base|libx11|libgl|perl-doc|systemd:|qemu|go)')

owner=(--same-owner)
if ! grep -q 4294967295 /proc/self/uid_map; then owner=(--no-same-owner); fi # a namespace with one id
tmp=$(mktemp -d)
trap 'rm -rf --one-file-system "$tmp"' EXIT
root=$tmp/root
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{proc,sys,dev,run,tmp,root,home,mnt,var/tmp}
for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
{
	dpkg-query -L "${installed[@]}" | grep -Ev '^/(\.|bin|sbin|lib|lib64|tmp|run|usr/share/(doc|man|locale|info|i18n)(/.*)?)?$|^/(boot|run|var/cache)/'
	# What the packages' scripts made: links of alternatives, and Python's compiled files.
	find /usr/bin /usr/sbin /etc/alternatives -type l
	find /usr/lib/python3* -name '*.pyc'
	printf '%s\n' /etc/nsswitch.conf /etc/login.defs
} | sort -u | while read -r f; do if [ -r "$f" ]; then echo "$f"; fi; done >"$tmp/list"
tar -C / --no-recursion -cf - -T "$tmp/list" 2>/dev/null | tar -C "$root" --keep-directory-symlink "${owner[@]}" -xpf -
find "$root/usr/bin" "$root/usr/sbin" "$root/etc/alternatives" -xtype l -delete # other packages' alternatives
# Debian's own accounts, not this machine's, and the guest's ordinary user.
for f in passwd group; do cp "/usr/share/base-passwd/$f.master" "$root/etc/$f"; done
echo "user:x:1000:1000:user:/home/user:/bin/bash" >>"$root/etc/passwd"
echo "user:x:1000:" >>"$root/etc/group"
sed 's/:.*/:*:19000:0:99999:7:::/' "$root/etc/passwd" >"$root/etc/shadow"
chmod 600 "$root/etc/shadow"
echo "user:100000:65536" | tee "$root/etc/subuid" >"$root/etc/subgid"
ldconfig -r "$root"

size=$(du -sm --apparent-size "$root" | cut -f1)
# Room for what tests write; it takes none until they do.
mke2fs -q -t ext4 -O ^has_journal -m 0 -i 8192 -d "$root" "$tmp/image" "$((size * 3 / 2 + 1024))m"
mv "$tmp/image" "$image.$$" # another file system, perhaps
mv "$image.$$" "$image"
echo "vmroot: ${#installed[@]} packages, $size MB"
