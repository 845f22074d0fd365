#!/usr/bin/env bash
# Runs make targets one after another, stops at the first that fails, and says
# how long each took: scripts/stages.sh TARGET... What a stage could not do it
# writes to the file STAGE_NOTE, and the summary tells it.
set -uo pipefail
cd "$(dirname "$0")/.."

summary() {
	printf '\n%-12s %8s\n' stage seconds
	printf '%s' "$table"
	printf '%-12s %8d\n' total $SECONDS
}
table=
export STAGE_NOTE
STAGE_NOTE=$(mktemp) || exit 1
trap 'rm -f "$STAGE_NOTE"' EXIT
for stage in "$@"; do
	printf '\n=== %s\n' "$stage"
	begin=$SECONDS
	"${MAKE:-make}" --no-print-directory "$stage"
	code=$?
	table+=$(printf '%-12s %8d  %s' "$stage" $((SECONDS - begin)) "$(cat "$STAGE_NOTE")")$'\n'
	: >"$STAGE_NOTE"
	if [ $code -ne 0 ]; then
		summary
		printf 'FAILED: %s; again with: make %s\n' "$stage" "$stage" >&2
		exit 1
	fi
done
summary
