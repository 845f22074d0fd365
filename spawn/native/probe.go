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
	r := spawn.ProbeRequest()
	r.Alone = true
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
