// Package native is the backend of namespaces: each actor has user, pid,
// mount, network, uts, ipc and cgroup namespaces of its own, a private root,
// no capabilities, no_new_privs, seccomp and Landlock, made by our own minimal
// init. As root each actor has host ids of its own; as an ordinary user it
// needs nothing set up beforehand.
//
//	b := native.New(native.Options{})
//	defer b.Close()
//	p, err := b.Start(ctx, &spawn.Request{ID: "a", Argv: []string{"true"}, …})
//
// Non-goals: cgroups, limits and their attribution (package sandbox), and a
// boundary against bugs of the host's kernel (backends with a kernel of their own).
package native

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/rootfs"
	"sandboxd/rootfs/unpack"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
)

// Options of the backend. The zero value suits root and ordinary users.
type Options struct {
	// SubUIDs and SubGIDs are an ordinary user's subordinate ids, mapped behind
	// the user's own by newuidmap(1). Zero: only the own id is mapped.
	SubUIDs, SubGIDs namespaces.Range
	// Owned says that what roots and mounts let in is the program's already, so
	// that nothing is id-mapped: Request.Host.UID owns it.
	Owned bool
}

// Backend implements spawn.Backend.
type Backend struct {
	options  Options
	rootless bool

	closing sync.WaitGroup // launchers that are on their way out

	mu        sync.Mutex
	closed    bool
	spare     chan spared       // a launcher started ahead; nil: none
	launchers map[string]*entry // by template
	epoch     uint64
}

// entry is a launcher in the making or made.
type entry struct {
	ready    chan struct{}
	launcher *launcher.Launcher
	scratch  *os.File // the writable layer that setup made, which its actor closes too; nil: prepare makes it
	err      error
}

// gone reports that the launcher was made and has died, its actors with it: the next one starts afresh.
func (e *entry) gone() bool {
	select {
	case <-e.ready:
	default:
		return false
	}
	if e.launcher == nil {
		return false
	}
	select {
	case <-e.launcher.Done():
		return true
	default:
		return false
	}
}

// New makes the backend. Nothing is started before the first Start.
func New(o Options) *Backend {
	return &Backend{options: o, rootless: !namespaces.Privileged(), launchers: map[string]*entry{}}
}

// spared is what Prestart came to.
type spared struct {
	launcher *launcher.Launcher
	err      error
}

// Prestart starts the launcher of the only, Alone actor, whatever it will be,
// and returns when that process runs. If r is not nil, its root is prepared
// meanwhile, see Warm. It is called at most once, before Start.
func (b *Backend) Prestart(r *spawn.Request) {
	spare := make(chan spared, 1)
	b.spare = spare
	if r != nil {
		b.Warm(context.Background(), r)
	}
	o := b.launcherOptions(true)
	o.Netns = o.MapIDs == nil
	l, err := launcher.Start(o) // not in a goroutine: nothing else is as urgent
	spare <- spared{l, err}
}

func (b *Backend) takeSpare() chan spared {
	b.mu.Lock()
	defer b.mu.Unlock()
	spare := b.spare
	b.spare = nil
	return spare
}

// launcherOptions are what a launcher is born with. One that keepsNet gets its
// network, if it is to have one of its own, by its setup plan.
func (b *Backend) launcherOptions(keepsNet bool) launcher.Options {
	o := launcher.Options{Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if !keepsNet {
		o.Namespaces |= unix.CLONE_NEWNET
	}
	if b.rootless {
		o.Namespaces |= unix.CLONE_NEWUSER
		spawn.MapUser(&o, b.options.SubUIDs, b.options.SubGIDs)
	}
	return o
}

// Name is "native".
func (b *Backend) Name() string { return "native" }

// Warm starts and prepares the launcher that r will need, beside the caller's
// own work: it does not wait, and r must not change. Errors show in Start.
func (b *Backend) Warm(ctx context.Context, r *spawn.Request) {
	b.beside(func() { _, _ = b.launcher(ctx, b.template(r)) })
}

// beside runs f while the caller goes on; Close waits for it. After Close has begun it is simply run.
func (b *Backend) beside(f func()) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		f()
		return
	}
	b.closing.Go(f)
	b.mu.Unlock()
}

// Start implements spawn.Backend.
func (b *Backend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	after, err := spawn.Program(r)
	if err != nil {
		return nil, err
	}
	p, err := b.Park(ctx, r)
	if err != nil {
		return nil, err
	}
	return p.finish(ctx, r, after)
}

// Parked is an actor between the halves of its plan: in its namespaces, its
// cgroup and its root, confined, authenticated, and without a program. A warm pool holds these.
type Parked struct {
	parked *spawn.Parked
	uid    int // of the program, as this process sees it
	before []spawn.Phase
	close  func()
}

// Park does the first half of Start. Of r it uses everything but the program:
// only Argv, Env and Inspect may differ in the Request that Parked.Start gets.
func (b *Backend) Park(ctx context.Context, r *spawn.Request) (*Parked, error) {
	if !b.rootless && r.Host == nil {
		return nil, errors.New("native: as root an actor needs host ids of its own; Request.Host is nil")
	}
	t := b.template(r)
	start := time.Now()
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails, crypto/rand
	b.mu.Lock()
	b.epoch++
	id := spawn.NewIdentity(r.ID, b.epoch)
	b.mu.Unlock()
	before, err := t.before(id)
	if err != nil {
		return nil, err
	}
	uids, gids, _, _ := t.ids()
	s := launcher.Spawn{
		CloneFlags: t.cloneFlags(), Prepare: t.prepare(socketName(nonce)), Before: before,
		UIDs: uids, GIDs: gids, DenyGroups: b.rootless && r.Host == nil, KeepKill: r.Host != nil,
		Files: spawn.Files(r), IntoCgroup: spawn.CgroupAt(r),
	}
	e, err := b.launcher(ctx, t)
	if err != nil {
		return nil, err
	}
	waited := time.Since(start)
	parked, err := spawn.Boot(ctx, e.launcher, s, id)
	if err != nil {
		b.release(t, e)
		return nil, err
	}
	if e.scratch != nil {
		parked.SetScratch(e.scratch)
	}
	p := &Parked{parked: parked, uid: spawn.ProgramUID(r, b.rootless, b.options.SubUIDs), before: []spawn.Phase{{Name: "launcher", Took: waited}}}
	if t.dedicated() {
		p.close = func() { b.release(t, e) }
	}
	return p, nil
}

// Start gives the parked actor its program. It may be called once.
func (p *Parked) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	after, err := spawn.Program(r)
	if err != nil {
		p.Close()
		return nil, err
	}
	return p.finish(ctx, r, after)
}

func (p *Parked) finish(ctx context.Context, r *spawn.Request, after []plan.Step) (spawn.Process, error) {
	if r.Peer {
		p.parked.KeepSocket(p.uid)
	}
	a, err := p.parked.Finish(ctx, after, r.Inspect)
	if err != nil {
		if p.close != nil {
			p.close()
		}
		return nil, err
	}
	return spawn.WithPeers(&process{Process: a, before: p.before, close: p.close}, a), nil
}

// Close ends a parked actor that is not wanted.
func (p *Parked) Close() error {
	err := p.parked.Close()
	if p.close != nil {
		p.close()
	}
	return err
}

// process releases its dedicated launcher with itself.
type process struct {
	spawn.Process
	before []spawn.Phase
	close  func()
	once   sync.Once
}

func (p *process) Phases() []spawn.Phase { return append(p.before, p.Process.Phases()...) }

func (p *process) Close() error {
	err := p.Process.Close()
	if p.close != nil {
		p.once.Do(p.close)
	}
	return err
}

// Netns makes a network namespace with loopback up, for Request.Netns. The caller owns the file.
func (b *Backend) Netns(ctx context.Context, r *spawn.Request) (*os.File, error) {
	e, err := b.launcher(ctx, b.template(r))
	if err != nil {
		return nil, err
	}
	var s steps
	s.add(plan.Unshare, n(unix.CLONE_NEWNET))
	s.add(plan.Loopback, nil)
	s.add(plan.OpenFile, n(plan.SlotListen, unix.O_RDONLY), "/proc/self/ns/net")
	fds, err := e.launcher.Run(s)
	if err == nil && len(fds) == 0 {
		err = unix.EMFILE
	}
	if err != nil {
		return nil, fmt.Errorf("native: make network namespace: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "netns"), nil
}

// key names the template: actors with the same key share a launcher.
func (t template) key() string {
	if t.bound() {
		return "actor/" + t.r.ID
	}
	return fmt.Sprintf("%v/%d:%d/%s/%v/%v", t.r.Root.Kind, t.r.UID, t.r.GID, t.r.Hostname, t.r.HostNetwork, t.r.Alone)
}

func (b *Backend) launcher(ctx context.Context, t template) (*entry, error) {
	key := t.key()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, launcher.ErrLost
	}
	e := b.launchers[key]
	if e != nil && e.gone() {
		e = nil
	}
	first := e == nil
	if first {
		e = &entry{ready: make(chan struct{})}
		b.launchers[key] = e
	}
	b.mu.Unlock()
	if first {
		e.err = b.open(ctx, t, e)
		close(e.ready)
	}
	select {
	case <-e.ready:
	default: // ready beats the end of ctx
		select {
		case <-e.ready:
		case <-ctx.Done():
			if t.dedicated() {
				b.beside(func() {
					<-e.ready
					b.release(t, e)
				})
			}
			return nil, context.Cause(ctx)
		}
	}
	if e.err != nil {
		b.release(t, e)
	}
	return e, e.err
}

// release forgets a launcher and ends it.
func (b *Backend) release(t template, e *entry) {
	if !t.dedicated() && e.err == nil {
		return
	}
	b.mu.Lock()
	if b.launchers[t.key()] == e {
		delete(b.launchers, t.key())
	}
	b.mu.Unlock()
	e.scratch.Close() // fine if there is none
	if e.launcher != nil {
		e.launcher.Kill()
		b.beside(func() { e.launcher.Close() }) // it dies beside the caller's own clean-up; Close waits for it
	}
}

func (b *Backend) open(ctx context.Context, t template, e *entry) (err error) {
	o, spare := b.launcherOptions(t.r.Alone || t.r.HostNetwork), chan spared(nil)
	if t.r.Alone {
		spare = b.takeSpare()
	}
	setup, bad := t.setup(spare != nil && o.MapIDs == nil) // while the launcher starts
	if spare != nil {
		s := <-spare
		e.launcher, err = s.launcher, s.err
	} else if bad == nil {
		e.launcher, err = launcher.Start(o)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) {
		err = fmt.Errorf("%w: this host refuses new namespaces; run `sandboxd doctor`", err)
	}
	if err = errors.Join(bad, err); err != nil {
		return err
	}
	var files []*os.File
	if t.r.Root.Kind == rootfs.Tar {
		tree, err := b.unpack(ctx, e.launcher, t.r)
		if err != nil {
			return err
		}
		defer tree.Close()
		files = []*os.File{tree}
	}
	fds, err := e.launcher.Run(setup, files...)
	if err != nil {
		return spawn.NewStepError(err, setup)
	}
	if len(fds) > 0 {
		e.scratch = os.NewFile(uintptr(fds[0]), "scratch")
	}
	return nil
}

// archiveBytes is what an unpacked archive may hold: it is in memory, and no
// limit of the actor's counts it. It may have a file for every 4 KiB of that.
var archiveBytes = func() int64 {
	limit := int64(2 << 30)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		limit = min(limit, int64(info.Totalram)*int64(info.Unit)/2)
	}
	return limit
}

// unpack fills a tmpfs of the launcher's with an archive. We write through its
// descriptor: it has no name on the host, and it goes with the actor. As root
// we write as the program, so that all of it is the program's.
func (b *Backend) unpack(ctx context.Context, l *launcher.Launcher, r *spawn.Request) (*os.File, error) {
	archive := r.Root.Path
	f, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	defer f.Close()
	var s steps
	bytes := archiveBytes()
	files := bytes >> 12
	uid, gid := 0, 0
	if !b.rootless {
		uid, gid = r.Host.UID, r.Host.GID
	}
	s.fsmount(plan.SlotListen, hidden, "tmpfs", "mode=0755", "size="+strconv.FormatInt(bytes, 10), "nr_inodes="+strconv.FormatInt(files+1, 10),
		"uid="+strconv.Itoa(uid), "gid="+strconv.Itoa(gid))
	fds, err := l.Run(s)
	if err == nil && len(fds) == 0 {
		err = unix.EMFILE
	}
	if err != nil {
		return nil, spawn.NewStepError(err, s)
	}
	tree := os.NewFile(uintptr(fds[0]), "root")
	if !b.rootless {
		defer filesAs(uid, gid)()
	}
	if _, err := unpack.Tar(ctx, tree, f, unpack.Options{Bytes: bytes, Entries: int(files), Readable: b.rootless}); err != nil {
		tree.Close()
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unpack.ErrTooLarge) || errors.Is(err, unpack.ErrTooMany) {
			err = fmt.Errorf("%w (an archive is unpacked into memory, %d MiB and %d files at most; unpack a larger one yourself and name the directory)", err, bytes>>20, files)
		}
		return nil, fmt.Errorf("root %s: %w", archive, err)
	}
	return tree, nil
}

// Close implements spawn.Backend.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	if b.spare != nil {
		if s := <-b.spare; s.launcher != nil {
			s.launcher.Close()
		}
		b.spare = nil
	}
	all := b.launchers
	b.launchers = map[string]*entry{}
	b.mu.Unlock()
	for _, e := range all {
		<-e.ready
		if e.launcher != nil {
			e.launcher.Close()
		}
		e.scratch.Close()
	}
	b.closing.Wait()
	return nil
}
