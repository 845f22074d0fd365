#!/usr/bin/env bash
# Proves that `make run` and `make test` do their own set-up: makes a fresh
# minimal Debian, gives it make, this machine's Go and a clone of this
# repository, and runs both there.
#
#   scripts/prove-bare.sh                  what is committed
#   PROVE_WORKTREE=1 scripts/prove-bare.sh the files as they are now
#   PROVE_TARGETS="run" PROVE_SUITE=trixie PROVE_KEEP=1 ...
#
# Needs root, debootstrap and some 4 GB below TMPDIR. Mounts and processes live
# in namespaces of their own and end with the script; the directory is removed
# unless PROVE_KEEP=1. Mirrors, certificates and the Go module proxy are those
# of this machine, read when it runs.
#
# It enters the new root by pivot_root(2), not chroot(2): the kernel refuses
# user namespaces to a process in a chroot.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
	[ "$(id -u)" = 0 ] || { echo "prove-bare: needs root" >&2; exit 1; }
	command -v debootstrap >/dev/null || { echo "prove-bare: needs debootstrap: apt-get install debootstrap" >&2; exit 1; }
	suite=${PROVE_SUITE:-bookworm}
	root=$(mktemp -d "${TMPDIR:-/tmp}/sandboxd-bare.XXXXXX")
	chmod 755 "$root" # it becomes /
	inside=
	clean() {
		trap '' INT TERM HUP
		# unshare ignores signals, and so does the first process of the namespace.
		if [ -n "$inside" ]; then kill -KILL "$inside" 2>/dev/null && wait "$inside" 2>/dev/null || :; fi
		[ "${PROVE_KEEP:-}" = 1 ] || for _ in 1 2 3 4 5; do rm -rf --one-file-system "$root" "$root.log" && break || sleep 1; done
	}
	trap clean EXIT
	trap 'exit 143' INT TERM HUP

	# The first mirror that the host's lists name, in either of their formats.
	shopt -s nullglob
	lists=(/etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list)
	[ ! -f /etc/apt/sources.list ] || lists+=(/etc/apt/sources.list)
	mirror=$(awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' "${lists[@]}" /dev/null)
	[ -n "$mirror" ] || { echo "prove-bare: /etc/apt names no mirror" >&2; exit 1; }
	begin=$SECONDS
	debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 || { cat "$root.log" >&2; exit 1; }
	rm -f "$root.log"
	echo "prove-bare: $suite, minbase: $((SECONDS - begin)) s, $(du -sm "$root" | cut -f1) MB"

	# What lets this machine reach its mirrors and proxies, it lends.
	if [ "$suite" = "$(. /etc/os-release && echo "$VERSION_CODENAME")" ]; then
		rm -f "$root/etc/apt/sources.list"
		for f in "${lists[@]}"; do cp "$f" "$root${f%/*}/"; done
	fi
	for f in $(grep -ls '^[[:space:]]*Acquire::' /etc/apt/apt.conf.d/* || true) /etc/apt/auth.conf.d/*; do
		cp "$f" "$root${f%/*}/"
	done
	mkdir -p "$root/usr/local/share/ca-certificates" "$root/etc/ssl/certs" "$root/src" "$root/old"
	cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
	cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	cp -L /etc/resolv.conf "$root/etc/"
	cp /etc/hosts "$root/etc/"
	cp -a "$(go env GOROOT)" "$root/usr/local/go"

	git clone -q --no-hardlinks . "$root/src/sandboxd"
	if [ "${PROVE_WORKTREE:-}" = 1 ]; then
		git ls-files -z --cached --others --exclude-standard --deduplicate |
			tar -c --null --ignore-failed-read -T - 2>/dev/null | tar -x -C "$root/src/sandboxd"
	fi
	for v in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GONOPROXY GOTOOLCHAIN; do
		printf 'export %s=%q\n' "$v" "$(go env "$v")"
	done >"$root/src/env"

	# A pid namespace, so that nothing survives; a mount namespace, so that nothing stays mounted.
	unshare --mount --propagation private --pid --fork --kill-child "$PWD/scripts/prove-bare.sh" inside "$root" &
	inside=$!
	wait "$inside"
	inside=
	exit
fi

root=$2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev/shm"
# The cgroups are the host's, so the leases that name them must be the same ones.
mkdir -p -m 700 /run/sandboxd "$root/run/sandboxd"
mount --bind /run/sandboxd "$root/run/sandboxd"
cd "$root"
pivot_root . old
umount -l /old
exec env -i HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin \
	SANDBOXD_MUST_WORK=1 PROVE_TARGETS="${PROVE_TARGETS:-run test}" bash -euo pipefail -c '
	. /src/env
	cd /src/sandboxd
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends make >/dev/null
	for target in $PROVE_TARGETS; do
		begin=$SECONDS
		make "$target" </dev/null
		echo "prove-bare: make $target: $((SECONDS - begin)) s"
	done'
