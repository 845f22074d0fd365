#!/usr/bin/env bash
# Writes vm/debian/pins.tsv: the Debian packages, with versions and checksums,
# that the VM runner unpacks: QEMU with all that it links, and kernels.
# Maintainers run it to move to newer ones; it needs apt and some 40 MB of
# lists, which it keeps in a directory of its own and removes.
#
# QEMU is bookworm-backports' 10.0: 7.2 crashes kernel 6.12 under emulation in
# one boot of four.
set -eu # no pipefail: readers below stop at the first hit
cd "$(dirname "$0")/.."

mirror=${SANDBOXD_DEBIAN_MIRROR:-$(apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Identifier: Packages' | grep -m1 '/debian/*$')}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"/{lists/partial,cache/archives/partial,none}
touch "$tmp/status"
for suite in bookworm bookworm-backports trixie-backports; do
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$tmp/sources"
export APT_CONFIG=$tmp/conf
cat >"$APT_CONFIG" <<EOF
Dir::State "$tmp"; Dir::State::status "$tmp/status"; Dir::State::lists "$tmp/lists"; Dir::Cache "$tmp/cache";
Dir::Etc::sourcelist "$tmp/sources"; Dir::Etc::sourceparts "$tmp/none"; Dir::Etc::preferencesparts "$tmp/none";
APT::Sandbox::User "root";
EOF
apt-get -qq update

# pin SET PACKAGE VERSION
pin() {
	apt-cache show "$2=$3" | awk -v set="$1" '
		/^[A-Z][A-Za-z0-9-]*:/ { f[substr($1, 1, length($1) - 1)] = $2 }
		/^$/ { exit }
		END { printf "%s\t%s\t%s\t%s\t%s\t%s\n", set, f["Package"], f["Version"], f["Size"], f["SHA256"], f["Filename"] }'
}

# kernel NAME FLAVOUR META-VERSION PACKAGE...: PACKAGEs as the meta package of that version depends on them
kernel() {
	local name=$1 flavour=$2 version=$3 release
	release=$(apt-cache show "linux-image-$flavour=$version" | grep -om1 "linux-image-[^ ,]*[0-9][^ ,]*-$flavour (" | sed 's/^linux-image-//; s/ ($//')
	shift 3
	for p in "$@"; do pin "$name" "$p-$release" "$version"; done
}

newest() { apt-cache madison "$1" | awk -F ' *\\| *' -v suite="$2/" 'index($3, suite) { print $2; exit }'; }

{
	echo "# Written by scripts/vm-pins.sh: set, package, version, size, sha256, path below the archive's root."
	qemu=$(newest qemu-system-x86 bookworm-backports)
	# The closure is made without backports but for QEMU's own, and without what only its helpers link.
	apt-get -s install --no-install-recommends -t bookworm-backports "qemu-system-x86=$qemu" |
		sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1 \2/p' |
		grep -Ev '^(adduser|passwd|debconf|libpam.*|libaudit.*|libsemanage.*|libsepol2|libdb5.3|libcrypt1|gcc-12-base|libsystemd0|libasound2.*|ipxe-qemu|qemu-system-common) ' |
		sort | while read -r p v; do pin qemu "$p" "$v"; done
	kernel 6.1 cloud-amd64 "$(newest linux-image-cloud-amd64 bookworm)" linux-image
	kernel 6.1-generic amd64 "$(newest linux-image-amd64 bookworm)" linux-image # which has 9p
	kernel 6.12 cloud-amd64 "$(newest linux-image-cloud-amd64 bookworm-backports)" linux-image
	kernel 7.3 cloud-amd64 "$(newest linux-image-cloud-amd64 trixie-backports)" linux-binary linux-modules
} >"$tmp/pins"
awk -F "\t" '!/^#/ && (NF != 6 || /\t\t/ || length($5) != 64) { print "vm-pins: incomplete: " $0; bad = 1 } END { exit bad || NR < 40 }' "$tmp/pins" >&2
mv "$tmp/pins" vm/debian/pins.tsv
chmod 644 vm/debian/pins.tsv
wc -l vm/debian/pins.tsv
