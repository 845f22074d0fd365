package wasm

import (
	"context"
	"errors"
	"os"
	"strings"

	"sandboxd/namespaces"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
)

// endless is a module whose _start is one loop.
const endless = "\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // a type: no parameters, no results
	"\x03\x02\x01\x00" + // a function of it
	"\x07\x0a\x01\x06_start\x00\x00" + // its name
	"\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b" // loop, branch to it

// Probe implements spawn.Backend: what the backend below holds for workers,
// less what WASI does not have, and one module that runs and is killed.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	if gate, ok := errors.AsType[*spawn.Gate](b.Usable()); ok {
		return spawn.Features{gate.Feature: gate}
	}
	f := b.inner.Probe(ctx)
	delete(f, spawn.Terminal)
	f[spawn.WASI] = nil
	if err := b.try(ctx); err != nil {
		observed, remedy := namespaces.Diagnose("", err)
		f[spawn.WASI] = &spawn.Gate{Feature: spawn.WASI, Observed: observed, Remedy: remedy}
	}
	f[spawn.Fuel] = &spawn.Gate{
		Feature: spawn.Fuel, Observed: "the runtime (wazero) counts no instructions",
		Remedy: "use --timeout, --cpu-time and --cpus, which are held from outside, as on every backend",
	}
	return f
}

// try runs a module that does not end.
func (b *Backend) try(ctx context.Context) error {
	module, err := launcher.Sealed("module", strings.NewReader(endless))
	if err != nil {
		return err
	}
	defer module.Close()
	r := spawn.ProbeRequest()
	return spawn.Try(ctx, trial{b, module}, r)
}

// trial starts the module that its stdin is, whatever the program.
type trial struct {
	*Backend
	module *os.File
}

func (t trial) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	with := *r
	with.Argv, with.Stdio[0] = []string{"/proc/self/fd/0"}, t.module
	return t.Backend.Start(ctx, &with)
}
