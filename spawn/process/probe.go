package process

import (
	"context"
	"os"

	"sandboxd/spawn"
)

// Probe implements spawn.Backend. What takes namespaces is not in the answer.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	dir, err := os.MkdirTemp("", "sandboxd-probe-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = spawn.Try(ctx, b, &spawn.Request{ID: "probe", Dir: "/", Private: dir})
	}
	f := spawn.Features{spawn.Landlock: spawn.LandlockGate()}
	for _, name := range []spawn.Feature{spawn.NoNewPrivs, spawn.NoCapabilities, spawn.Filter, spawn.Terminal, spawn.KillWhole, spawn.PeerSocket} {
		f[name] = nil
		if err != nil {
			f[name] = &spawn.Gate{Feature: name, Observed: err.Error()}
		}
	}
	return f
}
