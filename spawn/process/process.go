// Package process is the weakest backend: the actor is a process of its own in
// a cgroup of its own, with rlimits, no capabilities, no_new_privs, seccomp and
// Landlock, but without namespaces. It is for hosts that refuse namespaces and
// for programs that must see the host's processes and mounts.
//
//	b := process.New()
//	defer b.Close()
//	p, err := b.Start(ctx, &spawn.Request{ID: "a", Private: dir, Argv: []string{"true"}, …})
//
// Non-goals: a private root, a limit on disk use, hiding other processes; all
// of them take namespaces, package native.
package process

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
)

// Backend implements spawn.Backend. Its launcher has no namespaces either: it
// is a subreaper, and ends what is below it when its control socket closes. An
// init ends what is below it when its launcher dies or its supervisor hangs up,
// which is how an actor is killed. Where somebody else kills both at once, only
// the actor's cgroup tells what the program left.
type Backend struct{ launcher launcher.Keeper }

// New makes the backend. Nothing is started before the first Start.
func New() *Backend {
	return &Backend{launcher.Keeper{Start: func() (*launcher.Launcher, error) {
		l, err := launcher.Start(launcher.Options{})
		if err != nil {
			return nil, fmt.Errorf("process: %w", err)
		}
		return l, nil
	}}}
}

// Name is "process".
func (b *Backend) Name() string { return "process" }

// Start implements spawn.Backend. Request.Private must be an empty directory
// that belongs to the program's host ids; the socket is made in it.
func (b *Backend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	if err := b.Check(r); err != nil {
		return nil, err
	}
	if r.Private == "" {
		return nil, errors.New("process: Request.Private is empty")
	}
	l, epoch, err := b.launcher.Get()
	if err != nil {
		return nil, err
	}
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails, crypto/rand
	socket := filepath.Join(r.Private, "peer-"+hex.EncodeToString(nonce[:])+".sock")
	id := spawn.NewIdentity(r.ID, epoch)
	parked, err := spawn.Boot(ctx, l, launcher.Spawn{
		Prepare: []plan.Step{{Kind: plan.Listen, Nums: []uint64{plan.SlotListen, plan.NoSlot}, Strs: []string{socket}}},
		Before:  append(before(r), id.Connect(socket), plan.Step{Kind: plan.Welcome}), KeepKill: r.Host != nil, Files: spawn.Files(r), IntoCgroup: spawn.CgroupAt(r),
	}, id)
	if err != nil {
		return nil, err
	}
	after, err := after(told(r, socket))
	if err != nil {
		parked.Close()
		return nil, err
	}
	if r.Peer {
		uid := os.Geteuid()
		if r.Host != nil {
			uid = r.Host.UID
		}
		parked.KeepSocket(uid)
	}
	return parked.Finish(ctx, after, r.Inspect)
}

// told is r with the socket's path in the environment, where the program may connect to it.
func told(r *spawn.Request, socket string) *spawn.Request {
	if !r.Peer {
		return r
	}
	with := *r
	with.Env = slices.DeleteFunc(slices.Clone(r.Env), func(kv string) bool { return strings.HasPrefix(kv, spawn.SocketEnv+"=") })
	with.Env = append(with.Env, spawn.SocketEnv+"="+socket)
	return &with
}

// Check says no to what takes a namespace.
func (b *Backend) Check(r *spawn.Request) error {
	no := func(f spawn.Feature, what string) error {
		return &spawn.Gate{Feature: f, Observed: "the process backend has no namespaces, so it cannot " + what, Remedy: "use --backend native"}
	}
	switch {
	case r.Root.Kind != rootfs.Host || r.Root.Writable:
		return no(spawn.MountNS, "give a root of its own")
	case len(r.Mounts) > 0:
		return no(spawn.MountNS, "mount")
	case r.Netns != nil:
		return no(spawn.NetNS, "enter a network namespace")
	case r.TimeNS:
		return no(spawn.TimeNS, "change clocks")
	}
	return nil
}

func before(r *spawn.Request) []plan.Step {
	s := append([]plan.Step{{Kind: plan.Sync}, {Kind: plan.Subreaper}, {Kind: plan.Keyring}}, spawn.JoinSteps(r)...)
	if r.Affinity != nil {
		s = append(s, plan.Step{Kind: plan.Affinity, Strs: []string{string(r.Affinity)}})
	}
	// The score comes first: once undumpable, /proc/self belongs to root.
	return append(s, plan.Step{Kind: plan.OOMScore, Nums: []uint64{1000 + spawn.OOMScore}}, plan.Step{Kind: plan.Undumpable})
}

// after confines once Welcome is there: until then only this process knows how
// to end with its launcher, and it sleeps while there is a program without an image.
func after(r *spawn.Request) ([]plan.Step, error) {
	confine, err := spawn.Confine(r, false)
	if err != nil {
		return nil, err
	}
	program, err := spawn.Program(r)
	return append(confine, program...), err
}

// Close implements spawn.Backend.
func (b *Backend) Close() error { return b.launcher.Close() }
