#!/usr/bin/env bash
# Runs every fuzz target that the packages have, so many times (30000x) or so long (10m): scripts/fuzz.sh TIMES PACKAGE...
# What it finds lands in the package's testdata/fuzz, as a test case from then on.
set -euo pipefail
cd "$(dirname "$0")/.."

times=$1
shift
listing=$(go test -list '^Fuzz' "$@")
# Names come before the line "ok PACKAGE TIME" of their package.
targets=$(awk '/^Fuzz/ { names[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }' <<<"$listing")
if [ -z "$targets" ]; then
	echo "fuzz: none of the packages has a fuzz target" >&2
	exit 1
fi
while read -r package name; do
	much=$times
	case $name:$times in
	FuzzTar:*x) much=$((${times%x} / 50))x ;; # each run unpacks a tree
	esac
	echo "fuzz: $package $name, $much"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "$much" "$package"
done <<<"$targets"
