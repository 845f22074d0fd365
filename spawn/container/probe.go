package container

import (
	"context"
	"errors"

	"sandboxd/spawn"
)

// Probe implements spawn.Backend: one actor with everything on. Where that
// works, so does each part.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	if gate, ok := errors.AsType[*spawn.Gate](b.Usable()); ok {
		return spawn.Features{gate.Feature: gate}
	}
	r := spawn.ProbeRequest()
	if b.rootless { // the first subordinate ids
		r.Host = &spawn.HostIDs{InitUID: 1, InitGID: 1, UID: 2, GID: 2}
	}
	return spawn.Namespaced(spawn.Try(ctx, b, r))
}
