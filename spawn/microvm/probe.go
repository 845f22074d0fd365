package microvm

import (
	"context"
	"errors"

	"sandboxd/namespaces"
	"sandboxd/spawn"
)

// probeID is the last pair but two of the range that leases hand out (package sandbox), which no lease reaches.
const probeID = 1879048192 + 4096*32768 + 4

// Probe implements spawn.Backend: one guest, with a program in it. Where that
// works, so does each part.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	if gate, ok := errors.AsType[*spawn.Gate](b.Usable()); ok {
		return spawn.Features{gate.Feature: gate}
	}
	r := &spawn.Request{ID: "probe", Dir: "/", UID: 1000, GID: 1000, Hostname: "probe", Scratch: spawn.Scratch{Bytes: 1 << 20, Inodes: 64}, Memory: overhead + leastGuest}
	if namespaces.Privileged() {
		r.Host = &spawn.HostIDs{InitUID: probeID, InitGID: probeID, UID: probeID + 1, GID: probeID + 1}
	}
	f := spawn.Namespaced(spawn.TryFor(ctx, bootTimeout, b, r))
	why := f[spawn.UserNS]
	for _, here := range []spawn.Feature{spawn.VMM, spawn.GuestKernel} {
		f[here] = why
		if gate, ok := errors.AsType[*spawn.Gate](why); ok {
			f[here] = &spawn.Gate{Feature: here, Observed: gate.Observed, Remedy: gate.Remedy}
		}
	}
	delete(f, spawn.Terminal)
	return f
}
