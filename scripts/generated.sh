#!/usr/bin/env bash
# Checks that what is generated is what its sources say: generates again, and
# compares the files before and after.
set -euo pipefail
cd "$(dirname "$0")/.."

# A file that is gone is part of the state as well.
state() { git ls-files -z --cached --others --exclude-standard --deduplicate | { xargs -0 sha256sum 2>&1 || :; } | LC_ALL=C sort -k2; }
before=$(state)
"${MAKE:-make}" --no-print-directory generate
after=$(state)
if ! diff <(echo "$before") <(echo "$after"); then
	echo "generate-check: the files above were not what their sources say; they are now: look at the difference" >&2
	exit 1
fi
