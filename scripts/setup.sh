#!/usr/bin/env bash
# Makes a Debian machine ready for a target: scripts/setup.sh run|test.
# It is quick and quiet where nothing is missing. As root it installs what is;
# an ordinary user is told the command.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-}
case $target in
run) targets=' run ' ;;
test) targets=' run test ' ;;
*) echo "usage: scripts/setup.sh run|test" >&2; exit 2 ;;
esac
release=$(. /etc/os-release && echo "${VERSION_ID:-}")
mapfile -t packages < <(awk -v targets="$targets" -v release="$release" '
	!/^#/ { split($2, t, ":"); if (index(targets, " " t[1] " ") && (t[2] == "" || t[2] == release || t[2] == "?" && system("command -v " $1 " >/dev/null 2>&1"))) print $1 }' scripts/packages.txt)

if ! command -v go >/dev/null; then
	echo "setup: no go command in PATH: install Go $(awk '$1 == "go" { print $2 }' go.mod) or newer (https://go.dev/dl)" >&2
	exit 1
fi
if ! command -v dpkg-query >/dev/null; then
	echo "setup: this is no Debian system; make sure that it has what these Debian packages hold: ${packages[*]}"
	exit 0
fi

installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null | awk '$1 == "installed" { print $2 }' || true)
missing=()
for p in "${packages[@]}"; do
	grep -qxF -- "$p" <<<"$installed" || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
	echo "setup: all ${#packages[@]} Debian packages for 'make $target' are installed"
	exit 0
fi

if [ "$(id -u)" != 0 ]; then
	echo "setup: 'make $target' needs ${#missing[@]} more Debian packages. Install them with" >&2
	echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -q update && apt-get -q -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	echo "setup: apt-get failed, see above" >&2
	exit 1
fi
