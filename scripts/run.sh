#!/usr/bin/env bash
# Runs examples/untrusted.py under limits and shows what it saw and what the
# report says. Fails unless it was the memory limit that ended it.
set -euo pipefail
cd "$(dirname "$0")/.."

report=$(mktemp)
trap 'rm -f "$report"' EXIT
command=(bin/sandboxd run --memory 64m --pids-limit 32 --timeout 10s --report "$report"
	-v "$PWD/examples/untrusted.py:/untrusted.py:ro" -- python3 /untrusted.py)

printf '$ %s\n\n' "${command[*]}"
code=0
"${command[@]}" || code=$?
printf '\n\n--- the program ended with %d; the report:\n' "$code"
python3 -m json.tool "$report"
python3 - "$report" "$code" <<'PY'
import json, sys
report, code = json.load(open(sys.argv[1])), int(sys.argv[2])
if (report["exit"]["reason"], report["exit"]["code"], code) != ("oom", 137, 137):
    sys.exit(f"run: expected the memory limit to end the program (reason oom, exit code 137), got {report['exit']} and exit code {code}")
print("--- as it should be: the memory limit ended it (reason oom)")
PY
