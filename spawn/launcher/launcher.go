// Package launcher starts and talks to the launcher: a tiny single-threaded
// process that forks sandboxes on behalf of this one.
//
// A Go program cannot run code between fork and exec, pays for its heap when
// it forks into a user namespace, and must not fork itself from a
// multi-threaded runtime. The launcher has none of these troubles. It is PID 1
// of a pid namespace, so that its death, or ours, ends every sandbox below it.
//
//	l, err := launcher.Start(launcher.Options{Namespaces: launcher.Isolated})
//	defer l.Close()
//	_, err = l.Run(setup)                 // build the template root
//	child, err := l.Spawn(launcher.Spawn{ // fork one sandbox
//		CloneFlags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID, Before: steps,
//	})
//
// Non-goals: deciding what the steps are (package plan's users do) and the
// handshake (package ipc).
package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/plan"
)

// ErrLost says that the launcher is gone, and with it every sandbox that it forked.
var ErrLost = errors.New("launcher: lost: it was killed or closed, and its sandboxes with it")

// Isolated is what a launcher of namespaced sandboxes lives in.
const Isolated = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// IDMap maps Count ids from Inside to Outside, as in user_namespaces(7).
type IDMap struct{ Inside, Outside, Count int }

// Options of a launcher. The zero value starts it without namespaces.
type Options struct {
	Namespaces uintptr // CLONE_NEW… flags; CLONE_NEWPID makes it PID 1
	UIDs, GIDs []IDMap // with CLONE_NEWUSER
	Netns      bool    // do plan.NetnsStart first of all; not with MapIDs, which leaves it without capabilities at first
	// MapIDs, when set, writes the maps of a process instead of us: newuidmap(1) does, for ranges that we may not write.
	MapIDs func(pid int) error
	// Program, if not nil, is started in place of the minimal init, with Argv: a program that calls Serve. It takes
	// Spawn.Job in place of Prepare, and no Run.
	Program *os.File
	Argv    []string
}

// Launcher is a running launcher. Its methods may be called concurrently.
type Launcher struct {
	ctl   *os.File
	raw   syscall.RawConn
	pid   int
	pidfd int           // a pid could be reused between its reaping and our signal
	dead  chan struct{} // closed when the process has been reaped
	pidns bool          // it is PID 1, and what is below it dies with it

	close sync.Once

	mu      sync.Mutex
	lost    bool
	next    uint32
	waiting map[uint32]chan *event // requests without an answer
	live    map[uint32]*Child
}

// Start starts a launcher. Close it to end it and everything below it.
func Start(o Options) (*Launcher, error) {
	img, err := o.Program, error(nil)
	if img == nil {
		img, err = image()
	}
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("launcher: control socket: %w", err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		_, _ = unix.Close(pair[0]), unix.Close(pair[1])
		return nil, fmt.Errorf("launcher: open /dev/null: %w", err)
	}
	defer unix.Close(null)
	_ = unix.SetNonblock(pair[0], true)
	l := &Launcher{
		ctl: os.NewFile(uintptr(pair[0]), "launcher"), dead: make(chan struct{}), pidns: o.Namespaces&unix.CLONE_NEWPID != 0,
		waiting: map[uint32]chan *event{}, live: map[uint32]*Child{},
	}
	started := make(chan error, 1)
	go l.own(img, null, pair[1], o, started)
	err = <-started
	unix.Close(pair[1])
	if err == nil {
		l.raw, err = l.ctl.SyscallConn()
	}
	if err != nil {
		l.ctl.Close()
		return nil, err
	}
	go l.read()
	if o.MapIDs != nil {
		if err = o.MapIDs(l.pid); err == nil {
			err = l.send(&request{op: opReexec, into: noSlot})
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("launcher: map ids: %w", err)
		}
	}
	return l, nil
}

// own starts the process and reaps it. Its thread lives as long as the
// launcher, since PR_SET_PDEATHSIG means the parent *thread* (prctl(2)).
func (l *Launcher) own(img *os.File, null, ctl int, o Options, started chan<- error) {
	runtime.LockOSThread()
	mode := "s"
	if o.Namespaces&unix.CLONE_NEWPID != 0 {
		mode = "p"
	}
	if o.Netns && o.MapIDs == nil {
		mode += "n"
	}
	attr := &syscall.ProcAttr{
		// The image is one of the files, for what is not may be overwritten between fork and exec.
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(ctl), img.Fd()},
		Sys:   &syscall.SysProcAttr{Cloneflags: o.Namespaces, Setsid: true, PidFD: &l.pidfd},
		Dir:   "/",
	}
	if o.MapIDs == nil && o.Namespaces&unix.CLONE_NEWUSER != 0 {
		attr.Sys.UidMappings, attr.Sys.GidMappings = sysMaps(o.UIDs), sysMaps(o.GIDs)
	}
	argv := []string{"sandboxd-launcher", mode}
	if o.Program != nil {
		argv = o.Argv
		attr.Sys.Pdeathsig = syscall.SIGKILL // which the minimal init asks for itself
	}
	pid, _, err := syscall.StartProcess("/proc/self/fd/4", argv, attr)
	if err != nil {
		started <- fmt.Errorf("launcher: start: %w", err)
		return
	}
	l.pid = pid
	started <- nil
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			break
		}
	}
	close(l.dead)
}

func sysMaps(maps []IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: m.Inside, HostID: m.Outside, Size: m.Count}
	}
	return out
}

// PID is the launcher's pid as this process sees it.
func (l *Launcher) PID() int { return l.pid }

// Done is closed once the launcher is gone and reaped.
func (l *Launcher) Done() <-chan struct{} { return l.dead }

// Close ends the launcher, and by kernel rule every sandbox below it, and
// returns when it is reaped; so does a second call.
func (l *Launcher) Close() error {
	l.close.Do(func() {
		l.mu.Lock()
		l.lost = true
		l.mu.Unlock()
		l.end()
		<-l.dead
		l.mu.Lock()
		unix.Close(l.pidfd)
		l.pidfd = -1
		l.mu.Unlock()
		l.ctl.Close()
	})
	return nil
}

// Kill begins what Close completes, without waiting.
func (l *Launcher) Kill() {
	if l.pidns {
		_ = l.signal()
	}
}

// signal is safe beside Close, which closes the pidfd.
func (l *Launcher) signal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pidfd < 0 {
		return nil
	}
	return unix.PidfdSendSignal(l.pidfd, unix.SIGKILL, nil, 0)
}

// end kills the launcher. Without a pid namespace its death would leave what
// is below it, so it is told to do that first, by EOF.
func (l *Launcher) end() {
	if !l.pidns {
		_ = l.raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
		select {
		case <-l.dead:
			return
		case <-time.After(endGrace):
		}
	}
	_ = l.signal()
}

// endGrace is how long a launcher may take to kill what is below it: longer than a machine under load needs.
const endGrace = 10 * time.Second

// Run executes steps in the launcher itself: the setup plan, or a request such
// as "make a network namespace". It returns the descriptors that the steps
// left in plan.SlotListen and plan.SlotScratch, in this order; the caller owns them.
func (l *Launcher) Run(steps []plan.Step, files ...*os.File) ([]int, error) {
	b, err := plan.Append(nil, steps)
	if err != nil {
		return nil, err
	}
	e, err := l.ask(context.Background(), &request{op: opRun, plan: b, into: noSlot, files: files}, nil)
	if err != nil {
		return nil, err
	}
	if e.fail != nil {
		return nil, e.fail.Describe(steps)
	}
	return e.fds, nil
}

// Spawn forks a sandbox. When it returns, the process runs its Before steps;
// a step that fails there shows in Exit. What a launcher that does not answer
// before the end of ctx should still fork is killed.
func (l *Launcher) Spawn(ctx context.Context, s Spawn) (*Child, error) {
	prepare, err := plan.Append(nil, s.Prepare)
	if err != nil {
		return nil, err
	}
	if s.Job != nil {
		prepare = s.Job
	}
	before, err := plan.Append(nil, s.Before)
	if err != nil {
		return nil, err
	}
	q := &request{
		op: opSpawn, cloneFlags: s.CloneFlags, plan: prepare, before: before,
		uidMap: mapText(s.UIDs), gidMap: mapText(s.GIDs), into: noSlot, files: s.Files,
	}
	if s.IntoCgroup >= 0 {
		q.into = uint32(plan.SlotRequest + s.IntoCgroup)
	}
	for flag, on := range map[uint32]bool{flagKeepKill: s.KeepKill, flagDenySetgroups: s.DenyGroups, flagPidns: s.CloneFlags&unix.CLONE_NEWPID != 0} {
		if on {
			q.flags |= flag
		}
	}
	child := &Child{Pidfd: -1, Bare: !l.pidns && s.CloneFlags&unix.CLONE_NEWPID == 0, exited: make(chan struct{}), onExit: s.OnExit}
	e, err := l.ask(ctx, q, child)
	if err != nil {
		return nil, err
	}
	if e.kind == evSpawned && child.Pidfd < 0 { // it runs, but no descriptor of it could be received
		err := l.kill(e.id)
		<-child.exited
		return nil, errors.Join(fmt.Errorf("launcher: receive the pidfd of a sandbox: %w; raise the limit on open files", syscall.EMFILE), err)
	}
	if e.kind == evFailed {
		if e.text != "" {
			return nil, &JobError{Text: e.text, Errno: e.errno}
		}
		if e.fail == nil {
			e.fail = &StepError{Section: "prepare", Errno: syscall.EIO}
		}
		return nil, e.fail.Describe(s.Prepare)
	}
	return child, nil
}

func mapText(maps []IDMap) string {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d\n", m.Inside, m.Outside, m.Count)
	}
	return b.String()
}

// ask sends a request and waits for its answer. With child, it is registered
// in the same step in which it starts to exist, so that its exit cannot be missed.
func (l *Launcher) ask(ctx context.Context, q *request, child *Child) (*event, error) {
	answer := make(chan *event, 1)
	l.mu.Lock()
	if l.lost {
		l.mu.Unlock()
		return nil, ErrLost
	}
	l.next++
	q.id = l.next
	l.waiting[q.id] = answer
	if child != nil {
		l.live[q.id] = child
	}
	l.mu.Unlock()
	if err := l.send(q); err != nil {
		l.mu.Lock()
		delete(l.waiting, q.id)
		delete(l.live, q.id)
		l.mu.Unlock()
		return nil, err
	}
	var e *event
	select {
	case e = <-answer:
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, waits := l.waiting[q.id]; waits {
			delete(l.waiting, q.id)
			if child != nil {
				child.unwanted = true
			}
			return nil, context.Cause(ctx)
		}
		e = <-answer // it came meanwhile
	}
	if e == nil {
		return nil, ErrLost
	}
	return e, nil
}

// kill ends the sandbox of an earlier request, of which nobody holds a pidfd.
func (l *Launcher) kill(id uint32) error {
	return l.send(&request{op: opKill, id: id, into: noSlot})
}

func (l *Launcher) send(q *request) error {
	b, err := q.encode()
	if err != nil {
		return err
	}
	var oob []byte
	if len(q.files) > 0 {
		fds := make([]int, len(q.files))
		for i, f := range q.files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	werr := l.raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), b, oob, nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN
	})
	runtime.KeepAlive(q.files)
	if werr != nil || err == unix.EPIPE || err == unix.ECONNRESET {
		return ErrLost
	}
	if err != nil {
		return fmt.Errorf("launcher: send request: %w", err)
	}
	return nil
}

// read delivers events until the launcher is gone.
func (l *Launcher) read() {
	buf, oob := make([]byte, eventSize+maxText+1), make([]byte, unix.CmsgSpace(4*4))
	for {
		var n, noob, flags int
		var err error
		rerr := l.raw.Read(func(fd uintptr) bool {
			n, noob, flags, _, err = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			return err != unix.EAGAIN
		})
		if rerr != nil || err != nil || n == 0 {
			break
		}
		e, err := decodeEvent(buf[:n], oob[:noob])
		if err != nil {
			break
		}
		if flags&unix.MSG_CTRUNC != 0 { // this process has no descriptors left
			for _, fd := range e.fds {
				unix.Close(fd)
			}
			e.fds = nil
		}
		l.deliver(e)
	}
	l.fail()
}

func (l *Launcher) deliver(e *event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	child := l.live[e.id]
	if e.kind == evExited {
		if child != nil {
			child.exit = e.exit
			delete(l.live, e.id)
			child.end()
		}
		return
	}
	if child != nil {
		switch {
		case e.kind != evSpawned:
			delete(l.live, e.id)
		case child.unwanted:
			go func() { _ = l.kill(e.id) }() // beside this reader, for which the launcher may be waiting
			for _, fd := range e.fds {
				unix.Close(fd)
			}
		case len(e.fds) > 0:
			child.Pidfd, child.Returned = e.fds[0], e.fds[1:]
		}
	}
	if answer := l.waiting[e.id]; answer != nil {
		delete(l.waiting, e.id)
		answer <- e
	}
}

// fail ends every wait: the launcher said EOF or nonsense, which a live one never does.
func (l *Launcher) fail() {
	go l.Close()
	<-l.dead
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = true
	for id, answer := range l.waiting {
		delete(l.waiting, id)
		close(answer)
	}
	for id, child := range l.live {
		delete(l.live, id)
		child.lost = true
		child.end()
	}
}
