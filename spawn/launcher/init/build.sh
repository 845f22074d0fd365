#!/bin/sh
# Builds the minimal init for one machine: build.sh amd64|arm64 OUTPUT (relative to this folder). Called by `go generate` and by the rebuild test.
set -eu
cd "$(dirname "$0")"
case $1 in
amd64) cc=${CC_AMD64:-x86_64-linux-gnu-gcc} machine="-mno-sse -fcf-protection=none -Wl,-z,max-page-size=4096" ;;
arm64) cc=${CC_ARM64:-aarch64-linux-gnu-gcc} machine="-mgeneral-regs-only -mno-outline-atomics -Wl,-z,max-page-size=65536" ;;
*) echo "build.sh: no such machine: $1 (amd64 or arm64)" >&2; exit 2 ;;
esac
exec "$cc" -std=gnu11 -Os -Wall -Wextra -Wno-sign-compare -Werror -ffreestanding -fno-builtin -nostdlib -static -no-pie -fno-pie \
	-fno-stack-protector -fno-asynchronous-unwind-tables -fno-ident -fomit-frame-pointer \
	-Wl,-z,noseparate-code,-z,noexecstack,--build-id=none,-z,norelro -s $machine -o "$2" sys.c step.c actor.c launch.c
