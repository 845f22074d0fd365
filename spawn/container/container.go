// Package container is the backend of libcontainer, which runc is made of: a
// container with the defaults of OCI runtimes (namespaces, masked and read-only
// paths, device nodes, dropped capabilities), made by a helper program, and in
// it our own minimal init, which says hello and confines the program as it does
// for package native. It is for those who want the container code that most of
// the world runs, at its price: some 20 ms for each start.
//
//	b := container.New(container.Options{})
//	defer b.Close()
//	p, err := b.Start(ctx, &spawn.Request{ID: "a", Argv: []string{"true"}, …})
//
// libcontainer needs cgo and is started anew, as another program, for each
// container; neither this package nor who imports it links it. The helper,
// cmd/sandboxd-container, is process 1 of a pid namespace, speaks the protocol
// of the launcher, and ends everything by ending.
//
// libcontainer touches no cgroup: they are read-only where the helper runs. The
// init joins the actor's cgroup as its first step, before anything of the user's
// runs; so the limits count the actor only, not the making of it.
//
// An ordinary user takes subordinate ids for it, as other container engines do
// (package uidmap, subuid(5)): libcontainer wants a user 0 in every container,
// and the program is to be another one.
//
// Non-goals: images, OCI bundles.
package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/spawn"
	"sandboxd/spawn/container/job"
	"sandboxd/spawn/launcher"
)

// Options of the backend.
type Options struct {
	// Helper is the path of sandboxd-container; "": the file of that name beside the running program.
	Helper string
	// SubUIDs and SubGIDs are an ordinary user's subordinate ids, mapped by newuidmap(1). Root needs none.
	SubUIDs, SubGIDs namespaces.Range
}

// Backend implements spawn.Backend.
type Backend struct {
	options  Options
	rootless bool
	launcher launcher.Keeper
	proved   atomic.Pointer[launcher.Launcher] // one that has made a container
}

// New makes the backend. Nothing is started before the first Start.
func New(o Options) *Backend {
	b := &Backend{options: o, rootless: !namespaces.Privileged()}
	b.launcher.Start = b.start
	return b
}

// Prestart starts the helper beside the caller's own work. Errors show in Start.
func (b *Backend) Prestart() {
	go func() {
		if b.Usable() == nil {
			_, _, _ = b.launcher.Get()
		}
	}()
}

// Name is "container".
func (b *Backend) Name() string { return "container" }

// Start implements spawn.Backend.
func (b *Backend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	if err := b.Usable(); err != nil {
		return nil, err
	}
	if r.Host == nil {
		return nil, errors.New("container: an actor needs host ids of its own; Request.Host is nil")
	}
	began := time.Now()
	join, err := withCgroup(r)
	if err != nil {
		return nil, err
	}
	defer join.close()
	after, err := spawn.Program(join.Request)
	if err != nil {
		return nil, err
	}
	l, epoch, err := b.launcher.Get()
	if err != nil {
		return nil, err
	}
	id := spawn.NewIdentity(r.ID, epoch)
	before, err := before(join.Request, id)
	if err != nil {
		return nil, err
	}
	text, err := compile(join.Request, b.rootless).Encode()
	if err != nil {
		return nil, err
	}
	waited := time.Since(began)
	parked, err := spawn.Boot(ctx, l, launcher.Spawn{Job: text, Before: before, KeepKill: true, Files: spawn.Files(join.Request), IntoCgroup: -1}, id)
	if err != nil {
		return nil, b.explain(l, err)
	}
	b.proved.Store(l)
	if r.Peer {
		parked.KeepSocket(spawn.ProgramUID(r, b.rootless, b.options.SubUIDs))
	}
	p, err := parked.Finish(ctx, after, r.Inspect)
	if err != nil {
		return nil, err
	}
	return spawn.WithPeers(&process{p, waited}, p), nil
}

// explain adds what a helper's own words lack.
func (b *Backend) explain(l *launcher.Launcher, err error) error {
	if failed, ok := errors.AsType[*launcher.JobError](err); ok {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, failed)
	}
	if !errors.Is(err, launcher.ErrLost) {
		return err
	}
	if name, no := b.helper(); no == nil && !b.launcher.Closed() && l != b.proved.Load() {
		return helperGate(fmt.Errorf("%s ended at once, so it is no %s of this version: %w", name, job.Program, err))
	}
	return fmt.Errorf("container: the helper is gone: %w", err)
}

// process names the wait for the helper among its phases.
type process struct {
	spawn.Process
	waited time.Duration
}

func (p *process) Phases() []spawn.Phase {
	return append([]spawn.Phase{{Name: "helper", Took: p.waited}}, p.Process.Phases()...)
}

// joined is a Request whose cgroup v2 directory is one more file that the init writes itself to.
type joined struct {
	*spawn.Request
	procs *os.File
}

// withCgroup makes of r.Cgroup a file of r.Tasks besides: libcontainer cannot clone into a cgroup of somebody else's.
func withCgroup(r *spawn.Request) (*joined, error) {
	if r.Cgroup == nil {
		return &joined{Request: r}, nil
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(r.Cgroup.Fd()), &fs); err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", r.Cgroup.Name(), err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, fmt.Errorf("cgroup %s: is no cgroup v2 directory: %w", r.Cgroup.Name(), unix.EBADF)
	}
	fd, err := unix.Openat(int(r.Cgroup.Fd()), "cgroup.procs", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: open cgroup.procs: %w", r.Cgroup.Name(), err)
	}
	with := *r
	j := &joined{&with, os.NewFile(uintptr(fd), "cgroup.procs")}
	with.Tasks = append(append([]*os.File(nil), r.Tasks...), j.procs)
	return j, nil
}

func (j *joined) close() {
	if j.procs != nil {
		j.procs.Close()
	}
}

// Close implements spawn.Backend.
func (b *Backend) Close() error { return b.launcher.Close() }
