// Package wasm is the backend of WebAssembly: the program is a WASI module
// (preview 1), run by a worker that is an actor of another backend, with all of
// that one's walls and limits around it. The module has no system calls of its
// own, only the files, streams and clocks that WASI offers, and sees the actor's
// root as "/".
//
//	b := wasm.New(native.New(native.Options{}), wasm.Options{})
//	defer b.Close()
//	p, err := b.Start(ctx, &spawn.Request{ID: "a", Argv: []string{"tool.wasm"}, …})
//
// The worker (cmd/sandboxd-wasm) is executed by descriptor, so that it is
// nowhere in the actor's root. It opens the module as the program that the
// Request describes, compiles it, and says over the actor's socket how that
// went; until then nothing of the module has run, so no module can pretend.
//
// The runtime (wazero) counts no instructions: what ends a module that does
// not end by itself is the kernel's or the supervisor's kill of its worker.
//
// Non-goals: terminals, signals that the module would handle, programs that
// start others, the network; WASI preview 1 has none of these.
package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/wasm/job"
)

// Inner is a backend that workers are actors of.
type Inner interface {
	spawn.Backend
	Explain(r *spawn.Request) ([]plan.Section, error)
	Warm(ctx context.Context, r *spawn.Request)
}

// Options of the backend.
type Options struct {
	// Worker is the path of sandboxd-wasm; "": the file of that name beside the running program.
	Worker string
	// Cache is a directory that keeps compiled modules, a GiB at most, for this
	// and other backends. It is made where it does not exist, and not used
	// unless it is this user's alone. "": none, what is compiled is known to
	// this backend only.
	Cache string
}

// Backend implements spawn.Backend.
type Backend struct {
	inner   Inner
	options Options
	cache   cache
}

// New makes the backend on top of inner, which Close closes too. Nothing is started before the first Start.
func New(inner Inner, o Options) *Backend {
	return &Backend{inner: inner, options: o, cache: cache{dir: o.Cache}}
}

// Name is "wasm".
func (b *Backend) Name() string { return "wasm" }

// Check says no to what no WASI program can have.
func (b *Backend) Check(r *spawn.Request) error {
	no := func(f spawn.Feature, what string) error {
		return &spawn.Gate{Feature: f, Observed: "WASI preview 1 " + what, Remedy: "use --backend native for a program of this machine"}
	}
	switch {
	case r.Exe != nil:
		return no(spawn.Executables, "runs modules, and this program is an executable of this machine")
	case r.Terminal != nil:
		return no(spawn.Terminal, "has no terminals")
	case r.HostNetwork:
		return no(spawn.NetNS, "has no sockets, so nobody in it can use the host's network")
	}
	return nil
}

// Warm prepares the worker's sandbox beside the caller's own work.
func (b *Backend) Warm(ctx context.Context, r *spawn.Request) {
	if with, err := b.compile(r, nil); err == nil {
		b.inner.Warm(ctx, with)
	}
}

// compile is the Request of the worker that runs r.
func (b *Backend) compile(r *spawn.Request, worker *os.File) (*spawn.Request, error) {
	if err := b.Check(r); err != nil {
		return nil, err
	}
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return nil, errors.New("no program: argv is empty")
	}
	for _, kv := range r.Env {
		if strings.Index(kv, "=") < 1 {
			return nil, fmt.Errorf("environment %q: a WASI program can have KEY=value only", kv)
		}
	}
	env := r.Env
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PWD=") }) && r.Dir != "/" {
		env = append(slices.Clip(env), "PWD="+r.Dir) // WASI has no working directory; this is how programs learn theirs
	}
	with := *r
	with.Exe, with.Peer, with.Env = worker, true, nil
	with.Argv = job.Job{Memory: r.Memory, Pages: pages(r.Memory), Peer: r.Peer, Env: env, Argv: r.Argv}.Args()
	return &with, nil
}

// own is what the worker itself needs of an actor's memory: its image, what it keeps of the compiler's work.
const own = 32 << 20

// maxPages is all that 32 bits can address.
const maxPages = 1 << 16

// pages is how far a module's memory may grow, so that it is told that there is no more before the kernel kills it.
func pages(memory int64) uint32 {
	if memory <= 0 {
		return maxPages
	}
	return uint32(min(max(memory-own, memory/2)/job.PageSize, maxPages))
}

// Start implements spawn.Backend.
func (b *Backend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	worker, err := b.open()
	if err != nil {
		return nil, err
	}
	defer worker.Close()
	with, err := b.compile(r, worker)
	if err != nil {
		return nil, err
	}
	p, err := b.inner.Start(ctx, with)
	if err != nil {
		if step, ok := errors.AsType[*spawn.StepError](err); ok && step.Program() { // the worker's trouble, not the program's
			err = fmt.Errorf("wasm: start %s: %w", worker.Name(), step.Errno)
		}
		return nil, err
	}
	began := time.Now()
	if err := b.load(ctx, p, r.Argv[0]); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	w := &process{p, time.Since(began)}
	if r.Peer {
		return spawn.WithPeers(w, p), nil
	}
	return w, nil
}

// process names the wait for the module among its phases.
type process struct {
	spawn.Process
	loaded time.Duration
}

func (p *process) Phases() []spawn.Phase {
	return append(p.Process.Phases(), spawn.Phase{Name: "module", Took: p.loaded})
}

// Close implements spawn.Backend.
func (b *Backend) Close() error {
	b.cache.close()
	return b.inner.Close()
}
