package microvm

import (
	"context"
	"errors"

	"sandboxd/spawn"
)

// Probe implements spawn.Backend: one guest, with a program in it. Where that
// works, so does each part.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	if gate, ok := errors.AsType[*spawn.Gate](b.Usable()); ok {
		return spawn.Features{gate.Feature: gate}
	}
	r := spawn.ProbeRequest()
	r.Memory = overhead + leastGuest
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
