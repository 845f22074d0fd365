#!/usr/bin/env bash
# Runs the tests of `make vm-smoke` in guests: scripts/vm-smoke.sh ARGUMENTS-OF-MATRIX. A guest
# takes a Debian to copy a root from, and QEMU and kernels that are fetched
# once. Where those cannot be had, nothing ran; this says so, also in the
# summary of `make test`, and is a failure only with SANDBOXD_MUST_WORK=1.
set -uo pipefail
cd "$(dirname "$0")/.."

lack() {
	echo "NOT RUN: $1" | tee -a "${STAGE_NOTE:-/dev/null}"
	[ "${SANDBOXD_MUST_WORK:-}" != 1 ]
	exit
}
command -v dpkg-query >/dev/null || lack "the root of guests is made of Debian packages"
out=$(.cache/vmrun -- bin/sandboxd --version 2>&1)
case $? in
0) ;;
125)
	printf '%s\n' "$out"
	lack "no guest can be had here"
	;;
*)
	printf '%s\n' "$out"
	exit 1
	;;
esac
"${MAKE:-make}" --no-print-directory .cache/vmroot.img && exec go run ./integration/matrix "$@"
