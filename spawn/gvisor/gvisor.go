// Package gvisor is the backend of a kernel in user space: runsc, which is
// gVisor's, runs as the program of a native actor, and the user's program runs
// on it. Two walls stand behind each other: gVisor's kernel answers the
// program's system calls, and what it may do itself is bounded by the
// namespaces, ids and cgroup that package native made around it.
//
//	b := gvisor.New(gvisor.Options{})
//	defer b.Close()
//	p, err := b.Start(ctx, &spawn.Request{ID: "a", Argv: []string{"true"}, …})
//
// The native actor makes root, mounts, writable layer, ids and limits as for any
// other program; its root is what gVisor's gofer serves. Inside, our own minimal
// init is process 1: it says hello by the actor's socket, which gVisor lets it
// dial (--host-uds=open), confines the program, and tells how it ended.
//
// The outer actor differs from any other in what runsc needs: no Landlock, which
// forbids mounts, and no seccomp filter, for gVisor installs its own; a directory
// of its own (spawn.Guest). It has no capability: as any user may, runsc makes a
// user namespace, in which one id, the program's, is mapped.
//
// Non-goals: terminals, seccomp's "kill and tell" (Check refuses both by name),
// other platforms than systrap, checkpoints, GPUs.
package gvisor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/native"
	"sandboxd/spawn/plan"
)

// Options of the backend.
type Options struct {
	// Runsc is the path of runsc; "": the file of that name beside the running program, else the one in PATH.
	Runsc string
	// Outer are the options of the actors around gVisor.
	Outer native.Options
}

// Backend implements spawn.Backend.
type Backend struct {
	options Options
	outer   *native.Backend

	mu     sync.Mutex
	closed bool
	epoch  uint64
	init   *os.File // the minimal init, nil until the first start
	runsc  *os.File
	found  version
}

// New makes the backend. Nothing is started before the first Start.
func New(o Options) *Backend { return &Backend{options: o, outer: native.New(o.Outer)} }

// Prestart starts the launcher of the only, Alone actor beside the caller's own
// work, and asks runsc for its version. Errors show in Start.
func (b *Backend) Prestart() {
	go func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed {
			_ = b.open(context.Background())
		}
	}()
	b.outer.Prestart(nil)
}

// Name is "gvisor".
func (b *Backend) Name() string { return "gvisor" }

// Start implements spawn.Backend.
func (b *Backend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	if err := b.Check(r); err != nil {
		return nil, err
	}
	began := time.Now()
	after, err := spawn.Program(in(r))
	if err != nil {
		return nil, err
	}
	g, err := b.enter(ctx, r)
	if err != nil {
		return nil, err
	}
	defer g.close()
	waited := time.Since(began)
	outer, err := b.outer.Start(ctx, g.outer)
	if err != nil {
		return nil, err
	}
	booting := time.Now()
	p := &process{Process: outer, kernel: "gvisor " + platform + " " + g.version, before: []spawn.Phase{{Name: "runsc", Took: waited}}}
	if err := p.meet(ctx, g, after, r.Peer); err != nil {
		p.Close()
		return nil, err
	}
	p.after = []spawn.Phase{{Name: "guest", Took: time.Since(booting)}}
	if r.Peer {
		return &open{p, outer.(spawn.Peers)}, nil
	}
	return p, nil
}

// enter prepares one start: who must say hello, and the actor around it.
func (b *Backend) enter(ctx context.Context, r *spawn.Request) (*guest, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, launcher.ErrLost
	}
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	b.epoch++
	g := &guest{id: spawn.NewIdentity(r.ID, b.epoch), version: b.found.text}
	if err := g.prepare(r, b.runsc, b.init); err != nil {
		g.close()
		return nil, fmt.Errorf("gvisor: %w", err)
	}
	return g, nil
}

// open opens what is executed, once. b.mu is held.
func (b *Backend) open(ctx context.Context) error {
	if b.runsc == nil {
		f, v, err := b.find(ctx)
		if err != nil {
			return err
		}
		b.runsc, b.found = f, v
	}
	if b.init == nil {
		f, err := launcher.Sealed("sandboxd-init", strings.NewReader(launcher.Object()))
		if err != nil {
			return err
		}
		b.init, err = os.Open("/proc/self/fd/" + strconv.Itoa(int(f.Fd()))) // gVisor takes no program that could be written to
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Overhead implements spawn.Foreign: gVisor's kernel and gofer have some forty
// threads, and each process of the program's has some threads of the host's.
func (b *Backend) Overhead(processes int64) int64 { return 128 + 8*processes }

// Close implements spawn.Backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	for _, f := range []*os.File{b.init, b.runsc} {
		f.Close() // fine if there is none
	}
	b.init, b.runsc = nil, nil
	b.mu.Unlock()
	return b.outer.Close()
}

// Explain compiles r as Start would, without executing any of it: the plan of
// the actor around gVisor, and what the init in it does.
func (b *Backend) Explain(r *spawn.Request) ([]plan.Section, error) {
	after, err := spawn.Program(in(r))
	if err != nil {
		return nil, err
	}
	g := &guest{id: spawn.Identity{Actor: r.ID, Epoch: 1}}
	defer g.close()
	if err := g.prepare(r, os.Stdin, os.Stdin); err != nil {
		return nil, err
	}
	sections, err := b.outer.Explain(g.outer)
	if err != nil {
		return nil, err
	}
	for i := range sections {
		sections[i].Runs += "; around gVisor"
	}
	sections[len(sections)-1].Name = "runsc"
	return append(sections,
		plan.Section{Name: "guest before", Runs: "on gVisor's kernel, by the minimal init, process 1 there, and from fork on by the program's own process", Steps: g.before},
		plan.Section{Name: "guest after", Runs: "on gVisor's kernel, by the program's own process, once the supervisor knows who said hello", Steps: after}), nil
}
