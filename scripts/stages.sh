#!/usr/bin/env bash
# Runs make targets one after another, stops at the first that fails, and says
# how long each took: scripts/stages.sh TARGET...
set -uo pipefail
cd "$(dirname "$0")/.."

summary() {
	printf '\n%-12s %8s\n' stage seconds
	printf '%s' "$table"
	printf '%-12s %8d\n' total $SECONDS
}
table=
for stage in "$@"; do
	printf '\n=== %s\n' "$stage"
	begin=$SECONDS
	"${MAKE:-make}" --no-print-directory "$stage"
	code=$?
	table+=$(printf '%-12s %8d' "$stage" $((SECONDS - begin)))$'\n'
	if [ $code -ne 0 ]; then
		summary
		printf 'FAILED: %s; again with: make %s\n' "$stage" "$stage" >&2
		exit 1
	fi
done
summary
