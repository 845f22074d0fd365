package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/namespaces/landlock"
	"sandboxd/namespaces/seccomp"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
	"sandboxd/spawn/container"
	"sandboxd/spawn/native"
)

// Depth is how much of a spawn was made ahead, outside of the time measured.
type Depth int

// The depths. Every one ends in an authenticated Ready with every filter on.
const (
	Cold   Depth = iota // nothing: fresh cgroup with limits, fresh network namespace
	Pooled              // the cgroup and the network namespace were there
	Parked              // all but the program was there: the sandbox waited between the halves of its plan
)

func (d Depth) String() string { return [...]string{"cold", "pooled", "parked"}[d] }

// Native is our own spawn as a subject: package spawn/native with the cgroup of
// package sandbox/cgroup and what package sandbox asks for by default.
type Native struct {
	w     *Workspace
	depth Depth

	contained bool            // by package spawn/container instead
	native    *native.Backend // nil if contained
	backend   spawn.Backend
	tree      *cgroup.Tree
	program   *os.File
	null      *os.File
	request   spawn.Request
	next      atomic.Int64
	ahead     []*made // for Pooled and Parked
}

// instances tells the cgroup folders of subjects apart.
var instances atomic.Int64

// NewNative is one depth; the others are other subjects.
func NewNative(w *Workspace, d Depth) *Native { return &Native{w: w, depth: d} }

// NewContainer is a cold spawn of the container backend, whose helper runs, as native's launcher does.
func NewContainer(w *Workspace) *Native { return &Native{w: w, contained: true} }

// Name is "sandboxd" or "container", and the depth.
func (s *Native) Name() string {
	if s.contained {
		return "container " + s.depth.String()
	}
	return "sandboxd " + s.depth.String()
}

// Probe opens the backend and spawns once; further calls do nothing.
func (s *Native) Probe(ctx context.Context) error {
	absent := func(reason string, err error) error { return &AbsentError{s.Name(), reason, err} }
	if s.backend != nil {
		return nil // probed before
	}
	if !namespaces.Privileged() {
		return absent("it is measured with cgroups and ids of its own; run as root", nil)
	}
	host, err := cgroup.Detect()
	if err != nil {
		return absent("cgroups are needed", err)
	}
	if s.tree, err = host.Tree(s.w.Folder() + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(int(instances.Add(1)))); err != nil {
		return absent("cgroups are needed", err)
	}
	if s.program, err = openProgram(s.w.program()); err != nil {
		return absent("the tiny program", err)
	}
	if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return absent(os.DevNull, err)
	}
	policy, err := seccomp.Default(seccomp.Native(), seccomp.Options{})
	if err != nil {
		return absent("seccomp", err)
	}
	filter, err := policy.Compile()
	if err != nil {
		return absent("seccomp", err)
	}
	if _, err := landlock.ABI(); err != nil {
		return absent("every filter is to be on", err)
	}
	var backend spawn.Backend
	if s.contained {
		c := container.New(container.Options{})
		if err := c.Usable(); err != nil {
			return absent("its helper", err)
		}
		backend = c
	} else {
		s.native = native.New(native.Options{})
		backend = s.native
	}
	s.request = spawn.Request{
		// The program comes as descriptor 0, so that it needs no place in the root.
		Argv: []string{"/dev/stdin"}, Env: []string{"PATH=/usr/bin"}, Dir: "/", UID: 1000, GID: 1000, Hostname: "sandbox", Umask: 0o022,
		Scratch: spawn.Scratch{Bytes: 64 << 20, Inodes: 4096}, Filter: filter.Bytes(), Landlock: true,
		Rlimits: []spawn.Rlimit{{Resource: spawn.RlimitCore}, {Resource: spawn.RlimitNofile, Soft: 1024, Hard: 1024}},
	}
	s.backend = backend
	if err := s.w.onClose(s.close); err != nil {
		return err
	}
	return probeOnce(ctx, s, "its spawn fails")
}

func (s *Native) close() error {
	for _, m := range s.ahead {
		_ = m.drop()
	}
	err := errors.Join(s.backend.Close(), s.tree.Close())
	s.program.Close()
	s.null.Close()
	return err
}

// openProgram copies the tiny program to a memory file.
func openProgram(path string) (*os.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("tiny", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("tiny", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tiny")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// made is what one spawn consists of.
type made struct {
	leaf   *cgroup.Leaf
	q      spawn.Request
	parked *native.Parked
	proc   spawn.Process
}

// limits are written for every actor.
var limits = cgroup.Limits{Memory: 256 << 20, PIDs: 64, CPUMilli: 1900, Account: cgroup.Unified}

// shell makes the cgroup and fills in the request.
func (s *Native) shell(hold bool) (m *made, err error) {
	n := int(s.next.Add(1))
	m = &made{q: s.request}
	m.q.ID = "bench-" + strconv.Itoa(n)
	// Ids of the last lease's block, which nobody else reaches on a machine that is being measured.
	base := 1879048192 + 4095*32768 + 2*(n%16000)
	m.q.Host = &spawn.HostIDs{InitUID: base, InitGID: base, UID: base + 1, GID: base + 1}
	if hold {
		m.q.Argv = append(append([]string{}, m.q.Argv...), "hold")
	}
	m.q.Stdio = [3]*os.File{s.program, s.null, s.null}
	if m.leaf, err = s.tree.Leaf(strconv.Itoa(n), limits); err != nil {
		return nil, err
	}
	if m.q.Tasks, m.q.Cgroup, err = m.leaf.Join(); err != nil {
		return nil, errors.Join(err, m.leaf.Remove())
	}
	return m, nil
}

func (m *made) release() {
	for _, f := range append(m.q.Tasks, m.q.Cgroup, m.q.Netns) {
		if f != nil {
			f.Close()
		}
	}
	m.q.Tasks, m.q.Cgroup, m.q.Netns = nil, nil, nil
}

// drop ends all of it.
func (m *made) drop() error {
	m.release()
	var err error
	if m.parked != nil {
		err = m.parked.Close()
	}
	if m.proc != nil {
		killErr := m.proc.Kill()
		_, waitErr := m.proc.Wait(context.Background())
		err = errors.Join(err, killErr, waitErr, m.proc.Close())
	}
	return errors.Join(err, m.leaf.Remove())
}

// prepare makes ahead what the depth says.
func (s *Native) prepare(ctx context.Context, hold bool) (*made, error) {
	if s.depth == Cold {
		return nil, nil
	}
	m, err := s.shell(hold)
	if err != nil {
		return nil, err
	}
	if m.q.Netns, err = s.native.Netns(ctx, &m.q); err == nil && s.depth == Parked {
		m.parked, err = s.native.Park(ctx, &m.q)
	}
	if err != nil {
		return nil, errors.Join(err, m.drop())
	}
	return m, nil
}

// spawn makes the rest. It returns when the actor is Ready.
func (s *Native) spawn(ctx context.Context, m *made, hold bool) (*made, error) {
	var err error
	if m == nil {
		if m, err = s.shell(hold); err != nil {
			return nil, err
		}
	}
	if m.parked != nil {
		m.proc, err = m.parked.Start(ctx, &m.q)
		m.parked = nil
	} else {
		m.proc, err = s.backend.Start(ctx, &m.q)
	}
	m.release()
	if err != nil {
		return nil, errors.Join(err, m.drop())
	}
	return m, nil
}

// Once spawns, kills and removes one actor.
func (s *Native) Once(ctx context.Context) (Sample, error) {
	m, err := s.prepare(ctx, false)
	if err != nil {
		return Sample{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	t0 := time.Now()
	if m, err = s.spawn(ctx, m, false); err != nil {
		return Sample{}, err
	}
	ready := time.Since(t0)
	err = m.drop()
	total := time.Since(t0)
	return Sample{Ready: ready, Total: total}, err
}

// Start starts an actor that stays.
func (s *Native) Start(ctx context.Context) (Live, error) {
	m, err := s.prepare(ctx, true)
	if err != nil {
		return Live{}, err
	}
	t0 := time.Now()
	if m, err = s.spawn(ctx, m, true); err != nil {
		return Live{}, err
	}
	return Live{Ready: time.Since(t0), Stop: m.drop}, nil
}

// BootDeath spawns an actor whose first half fails inside the sandbox, and
// measures from the launch until the caller knows. The network namespace is
// made ahead: one in the making would have to be finished before its maker can die.
func (s *Native) BootDeath(ctx context.Context) (took time.Duration, err error) {
	m, err := s.shell(false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.drop()) }()
	if m.q.Netns, err = s.native.Netns(ctx, &m.q); err != nil {
		return 0, err
	}
	m.q.Affinity = make([]byte, 8) // no CPU at all: the step fails with EINVAL
	t0 := time.Now()
	_, err = s.backend.Start(ctx, &m.q)
	took = time.Since(t0)
	var step *spawn.StepError
	if !errors.As(err, &step) || step.Errno != unix.EINVAL {
		return 0, fmt.Errorf("bench: a boot that must fail gave %w", err)
	}
	return took, nil
}

// Cancel starts an actor and measures from its kill until its cgroup is proved empty and removed.
func (s *Native) Cancel(ctx context.Context) (time.Duration, error) {
	m, err := s.spawn(ctx, nil, true)
	if err != nil {
		return 0, err
	}
	t0 := time.Now()
	err = m.drop()
	return time.Since(t0), err
}
