package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/seccomp"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
)

// Process is a running program in its sandbox. Its methods may be called
// concurrently, also after its end.
type Process struct {
	host    *Host
	parent  *Process // within whose limits it is; nil: the host's
	res     *resolved
	id      string
	n       int // counts the actors of this host
	pair    int // index of its host ids; -1: none
	leaf    *cgroup.Leaf
	private string // its directory on the host, where the backend has no private root
	stdio   *stdio
	trap    *seccomp.Listener // tells of forbidden system calls; nil unless they end the actor
	began   time.Time
	report  Report
	abort   context.CancelCauseFunc // ends a start that is not done

	mu   sync.Mutex
	proc spawn.Process // nil until its program runs; from then on it stays
	over bool          // it has ended, and nobody ends it any more
	why  Reason        // who ended it, "" if it ended by itself
	note string        // the detail of why
	kids map[*Process]struct{}

	gone chan struct{} // closed when nothing of it is left
	done chan struct{} // closed when also its output is delivered
}

// Start starts an actor. It returns when its program runs, or with the reason
// why not; then nothing of it is left. ctx bounds the start only.
func (h *Host) Start(ctx context.Context, s Spec) (*Process, error) { return h.start(ctx, nil, s) }

func (h *Host) start(ctx context.Context, parent *Process, s Spec) (*Process, error) {
	start := time.Now()
	r, err := h.resolve(s)
	if err != nil {
		return nil, err
	}
	a := &Process{host: h, parent: parent, res: r, pair: -1, gone: make(chan struct{}), done: make(chan struct{})}
	ctx, a.abort = context.WithCancelCause(ctx)
	defer a.abort(nil)
	if err := h.enter(a); err != nil {
		return nil, err
	}
	if err = parent.adopt(a); err == nil {
		err = a.start(ctx, start)
	}
	if err != nil {
		err = errors.Join(err, a.release())
		close(a.gone)
		return nil, err
	}
	go a.supervise()
	return a, nil
}

// enter makes the actor visible to Close in the same step in which it starts to exist.
func (h *Host) enter(a *Process) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.New("host is closed")
	}
	h.next++
	a.n, a.id = h.next, strconv.Itoa(h.lease.N)+"."+strconv.Itoa(h.next)
	h.live[a] = struct{}{}
	return nil
}

func (a *Process) start(ctx context.Context, start time.Time) (err error) {
	r, q := a.res, &a.res.request
	q.ID = a.id
	phases := phaser{last: start}
	if r.ownIDs(a.host) {
		if a.pair, err = a.host.ids.take(); err != nil {
			return err
		}
		q.Host = r.hostIDs(a.host, a.pair)
	}
	if w, ok := r.backend.(interface {
		Warm(context.Context, *spawn.Request)
	}); ok { // the launcher starts while the cgroup is made
		warm := *q
		w.Warm(ctx, &warm)
	}
	if !r.namespaced() {
		if err := a.makePrivate(); err != nil {
			return err
		}
	}
	phases.mark("resolve")
	if r.cgroup != (cgroup.Limits{}) || a.parent.holds() { // an ordinary user may have none
		if a.leaf, err = a.makeLeaf(); err != nil {
			return err
		}
		if q.Tasks, q.Cgroup, err = a.leaf.Join(); err != nil {
			return err
		}
		defer closeAll(append(q.Tasks, q.Cgroup)...)
	}
	phases.mark("cgroup")
	if a.stdio, err = newStdio(r, a.end); err != nil {
		return err
	}
	defer a.stdio.closeChild()
	defer func() {
		if err != nil {
			closeAll(a.stdio.ours[:]...) // else the pumps do
		}
	}()
	q.Stdio = a.stdio.child
	if r.spec.ReadBack || r.spec.SeccompKill {
		q.Inspect = a.inspect
	}
	proc, err := r.backend.Start(ctx, q)
	if err != nil {
		return a.explainStart(err)
	}
	a.mu.Lock()
	a.proc = proc
	ended := a.why != ""
	a.mu.Unlock()
	if ended { // by Close, which found nothing to kill yet
		a.kill()
	}
	if _, ok := proc.(spawn.Peers); r.spec.Peer && !ok {
		return noPeers(r.backend.Name())
	}
	if k, ok := proc.(spawn.OtherKernel); ok && r.spec.ReadBack {
		a.report.Isolation.Enforced = append(a.report.Isolation.Enforced, "kernel("+k.Kernel()+")")
		a.report.Isolation.Guest = r.guest()
	}
	a.began = time.Now()
	for _, p := range proc.Phases() {
		phases.add(p.Name, p.Took)
	}
	a.report.Spawn = SpawnTime{Total: a.began.Sub(start), Phases: phases.list}
	return a.stdio.run(proc.Terminal())
}

// makeLeaf makes the actor's cgroup. A host that cannot limit swap still limits
// memory, and one that is itself held to fewer CPUs than the default holds the
// actor to those; unless such a limit was asked for.
func (a *Process) makeLeaf() (*cgroup.Leaf, error) {
	r, asked := a.res, &a.res.spec.Limits
	for {
		leaf, err := a.place(strconv.Itoa(a.n), r.cgroup)
		var no *cgroup.Unavailable
		switch {
		case !errors.As(err, &no):
			return leaf, err
		case no.Controller == cgroup.Memory && r.cgroup.MemorySwap == 0:
			r.cgroup.MemorySwap = Unlimited
			r.missing = append(r.missing, Missing{"memory-swap", err.Error()})
		case no.Controller == cgroup.CPU && r.cgroup.CPUMilli > 0 && (asked.CPUs == 0 || r.spec.BestEffort):
			r.cgroup.CPUMilli = 0
			r.missing = append(r.missing, Missing{"cpus", err.Error()})
		default:
			return nil, err
		}
	}
}

// explainStart names the limit that was too small to start anything.
func (a *Process) explainStart(err error) error {
	if a.leaf == nil {
		return err
	}
	ev, everr := a.leaf.Events()
	switch {
	case everr != nil:
	case ev.OOMKills > 0:
		return fmt.Errorf("memory limit of %s is too small to start a sandbox; raise --memory: %w", size(a.res.limits.Memory), err)
	case ev.PIDsMax > 0:
		return fmt.Errorf("limit of %d processes is too small to start a sandbox; raise --pids-limit: %w", a.res.limits.PIDs, err)
	}
	return err
}

// makePrivate makes the directory that stands in for a private root.
func (a *Process) makePrivate() error {
	q := &a.res.request
	parent := privateDir(a.host.lease.N)
	a.host.mu.Lock()
	a.host.private = true
	a.host.mu.Unlock()
	mkdir := func(dir string, mode os.FileMode) error {
		err := os.Mkdir(dir, mode)
		if err == nil || mode == 0o711 && errors.Is(err, os.ErrExist) {
			err = os.Chmod(dir, mode) // whatever the caller's umask
		}
		return err
	}
	var err error
	if all := filepath.Dir(parent); os.Geteuid() == 0 { // an ordinary user's is the leases' directory
		err = mkdir(all, 0o711)
	}
	a.private = filepath.Join(parent, a.id)
	if err == nil {
		err = mkdir(parent, 0o711)
	}
	if err == nil {
		err = mkdir(a.private, 0o700)
	}
	if err != nil {
		return fmt.Errorf("private directory: %w", err)
	}
	if q.Host != nil {
		if err := os.Chown(a.private, q.Host.UID, q.Host.GID); err != nil {
			return fmt.Errorf("private directory: %w", err)
		}
	}
	q.Private = a.private
	if a.res.spec.Dir == "" {
		q.Dir = a.private
	}
	q.Env = append([]string{"TMPDIR=" + a.private}, replaceEnv(q.Env, "HOME", a.private)...)
	return nil
}

// supervise is the actor's life from its program's start to the last trace of it.
func (a *Process) supervise() {
	stop := a.watch()
	exit, err := a.proc.Wait(context.Background())
	wall := time.Since(a.began)
	a.mu.Lock()
	a.over = true
	why, note := a.why, a.note
	a.mu.Unlock()
	stop()
	full := a.diskFull() || exit.Guest != nil && exit.Guest.DiskFull
	released := a.proc.Close() // its launcher ends beside what follows
	for _, kid := range a.endKids() {
		<-kid.gone
	}
	events := a.measure(exit, wall)
	if err := errors.Join(released, a.release()); err != nil {
		a.lacks("clean-up", err)
	}
	close(a.gone)
	delivered, cut := a.stdio.wait()
	if cut && why == "" { // what is found in its pipes after its end counts as well
		why, note = Output, a.stdio.reached()
	}
	a.report.Usage.OutputBytes = delivered
	a.report.Exit = verdict(exit, err, why, note, events, full, &a.res.limits)
	close(a.done)
}

func (a *Process) lacks(what string, err error) {
	a.report.Isolation.Missing = append(a.report.Isolation.Missing, Missing{what, err.Error()})
}

// watch starts what ends an actor that does not end by itself.
func (a *Process) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &a.res.limits
	if l.CPUTime > 0 {
		go a.watchCPU(ctx, l.CPUTime)
	}
	if a.trap != nil {
		go watchTrap(ctx, a.trap, a.end)
	}
	if l.Timeout > 0 {
		t := time.AfterFunc(l.Timeout, func() { a.end(Timeout, fmt.Sprintf("wall time limit of %v reached", l.Timeout)) })
		return func() { t.Stop(); cancel() }
	}
	return cancel
}

// watchCPU polls, at the pace at which the limit could be reached soonest.
func (a *Process) watchCPU(ctx context.Context, limit time.Duration) {
	for {
		var left time.Duration
		if u, err := a.leaf.Usage(); err == nil { // else, as without a free descriptor, the next look tells
			if left = limit - u.CPU; left <= 0 {
				a.end(CPUTime, fmt.Sprintf("CPU time limit of %v reached", limit))
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(left/time.Duration(runtime.NumCPU()), 2*time.Millisecond)):
		}
	}
}

// end kills the actor, for the first reason that anyone has.
func (a *Process) end(why Reason, detail string) {
	a.mu.Lock()
	first := a.why == "" && !a.over
	if first {
		a.why, a.note = why, detail
	}
	a.mu.Unlock()
	if first {
		a.kill()
	}
}

func (a *Process) kill() {
	a.mu.Lock()
	proc, note := a.proc, a.note
	a.mu.Unlock()
	if proc == nil {
		a.abort(errors.New(note))
		return
	}
	a.endKids() // before the cgroup does, so that they know why
	_ = proc.Kill()
	if a.leaf != nil && !a.res.namespaced() { // a pid namespace dies with its init; anything less needs the cgroup
		_ = a.leaf.Kill()
	}
}

// Cancel asks the program to end with SIGTERM and kills it after grace. It
// does not wait, and does nothing to an actor that has ended.
func (a *Process) Cancel(by string, grace time.Duration) {
	a.mu.Lock()
	if a.note == "" {
		a.note = by
	}
	a.mu.Unlock()
	if grace <= 0 || a.Signal(syscall.SIGTERM) != nil {
		a.end(Cancelled, by)
		return
	}
	go func() {
		select {
		case <-a.gone:
		case <-time.After(grace):
			a.end(Cancelled, by)
		}
	}()
}

// Signal sends s to the program; SIGKILL ends the whole actor.
func (a *Process) Signal(s syscall.Signal) error { return a.proc.Signal(s) }

// Resize tells the actor's terminal its new size.
func (a *Process) Resize(w spawn.Winsize) error {
	t := a.proc.Terminal()
	if t == nil {
		return errors.New("the actor has no terminal")
	}
	return unix.IoctlSetWinsize(int(t.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: w.Rows, Col: w.Cols})
}

// ID names the actor in reports; it is unique on this machine while it lives.
func (a *Process) ID() string { return a.id }

// PID is that of the actor's init, as this process sees it.
func (a *Process) PID() int { return a.proc.PID() }

// Gone is closed when nothing of the actor is left on the host.
func (a *Process) Gone() <-chan struct{} { return a.gone }

// Wait returns the report when nothing of the actor is left and its output has been delivered.
func (a *Process) Wait(ctx context.Context) (*Report, error) {
	select {
	case <-a.done:
		return &a.report, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// release removes all that the actor had. The leaf goes last: it is the proof that nothing is left.
func (a *Process) release() error {
	var err error
	if a.proc != nil {
		err = a.proc.Close()
	}
	if a.leaf != nil {
		err = errors.Join(err, a.empty())
	}
	if a.trap != nil {
		_ = a.trap.Close()
	}
	if a.stdio != nil {
		a.stdio.closeInput()
	}
	if a.private != "" {
		err = errors.Join(err, os.RemoveAll(a.private))
	}
	if a.pair >= 0 {
		a.host.ids.give(a.pair)
	}
	a.parent.disown(a)
	a.host.mu.Lock()
	delete(a.host.live, a)
	a.host.mu.Unlock()
	return err
}

// empty proves the cgroup empty, killing what is there, and removes it.
func (a *Process) empty() error {
	if err := a.leaf.Remove(); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(a.leaf.Kill(), a.leaf.WaitEmpty(ctx), a.leaf.Remove())
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// phaser collects consecutive phases.
type phaser struct {
	last time.Time
	list []Phase
}

func (p *phaser) mark(name string) {
	now := time.Now()
	p.list = append(p.list, Phase{name, now.Sub(p.last)})
	p.last = now
}

func (p *phaser) add(name string, took time.Duration) { p.list = append(p.list, Phase{name, took}) }

// lostErr tells a launcher's death from other failures.
func lostErr(err error) bool { return errors.Is(err, launcher.ErrLost) }
