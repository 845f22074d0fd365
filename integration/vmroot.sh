#!/usr/bin/env bash
# Makes the root of the guests that our own tests run in: an ext4 image of
# Debian packages that this machine has installed (scripts/packages.txt and what
# a system needs), copied from it. Takes seconds, fetches nothing.
#
#   integration/vmroot.sh IMAGE
#
# Needs root, for the owners of files, and Debian.
set -euo pipefail
image=${1:?usage: integration/vmroot.sh IMAGE}
cd "$(dirname "$0")/.."

# What is not worth its place in a guest: it is used here, to build and to compare.
mapfile -t packages < <(awk '!/^#/ && NF { print $1 }' scripts/packages.txt | grep -Ev 'arm64|aarch64|qemu|shellcheck|ca-certificates|debootstrap|mmdebstrap|^make$|^vagrant$')
packages+=(bash dash coreutils util-linux mount findutils grep sed mawk tar gzip libc-bin base-files base-passwd login passwd hostname procps)
mapfile -t installed < <(apt-cache depends --recurse --installed --important --no-recommends --no-suggests "${packages[@]}" 2>/dev/null | grep '^[a-z0-9]' | sort -u | xargs dpkg-query -W -f '${db:Status-Status} ${Package}:${Architecture}\n' 2>/dev/null | sed -n 's/^installed //p' | sed 's/:all$//' | grep -Ev '^(gcc-.*-base|libx11|libgl|perl-doc|systemd:|qemu|go)')

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
	printf '%s\n' /etc/passwd /etc/group /etc/nsswitch.conf /etc/login.defs
} | sort -u | while read -r f; do if [ -e "$f" ]; then echo "$f"; fi; done >"$tmp/list"
tar -C / --no-recursion -cf - -T "$tmp/list" 2>/dev/null | tar -C "$root" --keep-directory-symlink -xf -
find "$root/usr/bin" "$root/usr/sbin" "$root/etc/alternatives" -xtype l -delete # other packages' alternatives
echo "user:100000:65536" | tee "$root/etc/subuid" >"$root/etc/subgid"
ldconfig -r "$root"

size=$(du -sm --apparent-size "$root" | cut -f1)
rm -f "$image"
# Room for what tests write; it takes none until they do.
mke2fs -q -t ext4 -O ^has_journal -m 0 -i 8192 -d "$root" "$image.tmp" "$((size * 3 / 2 + 1024))m"
mv "$image.tmp" "$image"
echo "vmroot: ${#installed[@]} packages, $size MB"
