package native

import (
	"context"
	"os"

	"sandboxd/spawn"
)

// Probe implements spawn.Backend: one actor with everything on. Where that
// works, so does each part; where not, the error names the part and the host's
// reason is looked up.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	r := &spawn.Request{
		ID: "probe", Dir: "/", UID: 1000, GID: 1000, Hostname: "probe", Alone: true, Scratch: spawn.Scratch{Bytes: 1 << 20, Inodes: 64},
	}
	if !b.rootless {
		r.Host = &spawn.HostIDs{InitUID: probeID, InitGID: probeID, UID: probeID + 1, GID: probeID + 1}
	}
	err := spawn.Try(ctx, b, r)
	f := spawn.Namespaced(err)
	if b.rootless && b.options.SubUIDs.Count == 0 {
		f[spawn.TwoIDs] = &spawn.Gate{
			Feature: spawn.TwoIDs, Observed: "no subordinate ids for this user, or newuidmap is not installed",
			Remedy: "install the package uidmap and add the user to /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER)",
		}
	}
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		f[spawn.TimeNS] = &spawn.Gate{Feature: spawn.TimeNS, Observed: err.Error(), Remedy: "boot a kernel of 5.6 or later with CONFIG_TIME_NS"}
	}
	if err == nil {
		t := *r
		t.ID, t.Terminal = "probe-tty", &spawn.Winsize{Rows: 24, Cols: 80}
		if err := spawn.Try(ctx, b, &t); err != nil {
			f[spawn.Terminal] = &spawn.Gate{Feature: spawn.Terminal, Observed: err.Error()}
		}
	}
	return f
}

// probeID is the last pair of the range that leases hand out (package sandbox), which no lease reaches.
const probeID = 1879048192 + 4096*32768
