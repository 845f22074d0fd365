package container

import (
	"context"
	"errors"

	"sandboxd/spawn"
)

// probeID is the last pair but one of the range that leases hand out (package sandbox), which no lease reaches.
const probeID = 1879048192 + 4096*32768 + 2

// Probe implements spawn.Backend: one actor with everything on. Where that
// works, so does each part.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	if gate, ok := errors.AsType[*spawn.Gate](b.Usable()); ok {
		return spawn.Features{gate.Feature: gate}
	}
	id := probeID
	if b.rootless { // the first subordinate ids
		id = 1
	}
	r := &spawn.Request{
		ID: "probe", Dir: "/", UID: 1000, GID: 1000, Hostname: "probe", Scratch: spawn.Scratch{Bytes: 1 << 20, Inodes: 64},
		Host: &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1},
	}
	return spawn.Namespaced(spawn.Try(ctx, b, r))
}
