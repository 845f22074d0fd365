#!/bin/sh
# Writes what the committed objects were built from, by whom: sums.sh >objects.sum. Called by `go generate` after build.sh, read by a test.
set -eu
cd "$(dirname "$0")"
for machine in amd64 arm64; do
	case $machine in
	amd64) cc=${CC_AMD64:-x86_64-linux-gnu-gcc} ;;
	arm64) cc=${CC_ARM64:-aarch64-linux-gnu-gcc} ;;
	esac
	echo "# $machine: $("$cc" -dumpmachine) gcc $("$cc" -dumpfullversion), $("$("$cc" -print-prog-name=ld)" --version | head -n 1)"
done
exec sha256sum build.sh init.h sys.h sys.c step.c actor.c launch.c init-amd64 init-arm64
