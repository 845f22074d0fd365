#!/usr/bin/env bash
# Validates the Vagrantfile. It needs Vagrant, but no provider, no box and no network, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v vagrant >/dev/null; then
	echo "vagrantfile: NOT VALIDATED: there is no vagrant command; scripts/setup.sh test installs it" | tee -a "${STAGE_NOTE:-/dev/null}" >&2
	[ "${SANDBOXD_MUST_WORK:-}" != 1 ]
	exit
fi
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
HOME=$home VAGRANT_HOME=$home VAGRANT_DOTFILE_PATH=$home/state VAGRANT_CHECKPOINT_DISABLE=1 vagrant validate --ignore-provider
