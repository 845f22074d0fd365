#!/usr/bin/env bash
# Makes a Vagrant guest ready for `make test`; the Vagrantfile runs it as root.
# It may run again: what is there already stays.
set -euo pipefail
cd /vagrant
export DEBIAN_FRONTEND=noninteractive

# systemd hands down only the controllers that a unit asks for, and by itself that is not cpu, cpuset and io.
mkdir -p /etc/systemd/system/user@.service.d
cat >/etc/systemd/system/user@.service.d/sandboxd.conf <<'EOF'
[Service]
Delegate=cpu cpuset io memory pids
EOF
# A cgroup that hands controllers down must be empty, so each test binary gets a scope of its own: see docs/vagrant.md.
cat >/usr/local/bin/scoped <<'EOF'
#!/bin/sh
[ "$(id -u)" = 0 ] || user=--user
exec systemd-run $user --scope --quiet --collect -p Delegate=yes -- "$@"
EOF
chmod 755 /usr/local/bin/scoped
systemctl daemon-reload
systemctl try-restart 'user@*.service' # the manager of the session that runs this

want=$(awk '$1 == "go" { print $2 }' go.mod)
have=$(/usr/local/go/bin/go env GOVERSION 2>/dev/null || true)
if [ "$(printf '%s\n' "go$want" "$have" | sort -V | head -n 1)" != "go$want" ]; then
	command -v curl >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends ca-certificates curl; } >/dev/null
	archive=$(mktemp)
	curl -fsSL -o "$archive" "https://go.dev/dl/go$want.linux-$(dpkg --print-architecture).tar.gz"
	rm -rf /usr/local/go
	tar -C /usr/local -xzf "$archive"
	rm -f "$archive"
fi
ln -sf /usr/local/go/bin/go /usr/local/go/bin/gofmt /usr/local/bin/

for user in root vagrant; do
	for v in GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GONOPROXY; do
		[ -z "${!v:-}" ] || runuser -l $user -c "go env -w $v='${!v}'"
	done
	runuser -l $user -c 'go env -w GOFLAGS=-exec=scoped'
done
scripts/setup.sh test
echo "provision: $(go version), kernel $(uname -r), $(systemctl --version | head -n 1)"
