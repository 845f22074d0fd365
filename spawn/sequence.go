package spawn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
)

// The spawn sequence, in the order of the functions below:
//
//	Boot    fork by the launcher; first half of the plan; the peer connects and
//	        proves who it is by kernel credentials and nonce        → Parked
//	Finish  Welcome with the second half; exec; Ready               → Process
//
// A wait for the peer has four exits: it is there, it died (known at once, by
// its exit, not by a timeout), the deadline passed, the caller cancelled.
// On every exit but the first, what was started is dead when the call returns.

// Identity is what the handshake compares.
type Identity struct {
	Actor string
	Epoch uint64
	nonce [16]byte
}

// NewIdentity makes the identity of one incarnation, with a nonce used once.
func NewIdentity(actor string, epoch uint64) Identity {
	id := Identity{Actor: actor, Epoch: epoch}
	rand.Read(id.nonce[:]) // never fails, crypto/rand
	return id
}

// Expect is who must say hello: the process of this number.
func (id Identity) Expect(pid int) ipc.Expect {
	return ipc.Expect{Actor: id.Actor, Epoch: id.Epoch, Nonce: id.nonce, PID: pid}
}

// Connect is the step with which the peer says who it is; a Welcome follows in the first half.
func (id Identity) Connect(socket string) plan.Step {
	return plan.Step{Kind: plan.Connect, Nums: []uint64{ipc.Proto, id.Epoch}, Strs: []string{socket, id.Actor, string(id.nonce[:])}}
}

// Parked is an actor between the halves of its plan: in its namespaces and
// cgroup, authenticated, without a program.
type Parked struct {
	actor *actor
	epoch uint64
	steps []plan.Step // of the first half, for words in errors
}

// Boot forks and waits for the peer. The steps s.Prepare must leave the
// listener in plan.SlotListen and may leave plan.SlotScratch; s.Before has
// id.Connect and ends with Welcome.
func Boot(ctx context.Context, l *launcher.Launcher, s launcher.Spawn, id Identity) (*Parked, error) {
	a := &actor{start: time.Now()}
	alive, died := context.WithCancelCause(ctx)
	defer died(nil)
	s.OnExit = func() { died(errDied) }
	child, err := l.Spawn(ctx, s)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w: the launcher did not answer: %w", ErrBoot, err)
	}
	if err != nil {
		return nil, NewStepError(err, s.Prepare)
	}
	a.child = child
	if len(child.Returned) > 1 {
		a.scratch = os.NewFile(uintptr(child.Returned[1]), "scratch")
	}
	a.phase("clone")
	if err := a.accept(alive, id); err != nil {
		err = a.bootError(ctx, err, s.Before, nil)
		a.Close()
		return nil, err
	}
	a.phase("handshake")
	return &Parked{actor: a, epoch: id.Epoch, steps: s.Before}, nil
}

// errDied ends an accept whose peer can no longer come.
var errDied = errors.New("the process died")

// accept waits for the peer while it is alive.
func (a *actor) accept(alive context.Context, id Identity) error {
	if len(a.child.Returned) == 0 {
		return errors.New("the plan left no listener")
	}
	listener, err := ipc.NewListener(os.NewFile(uintptr(a.child.Returned[0]), "peer.sock"))
	if err != nil {
		return err
	}
	a.listener = listener
	if a.pid, err = pidOf(a.child.Pidfd); err != nil {
		return err
	}
	a.conn, _, err = ipc.AcceptHello(alive, listener, id.Expect(a.pid))
	if err != nil {
		return err
	}
	return nil
}

// Finish sends the second half and waits for Ready. It may be called once; the
// Parked is used up. inspect is Request.Inspect.
func (p *Parked) Finish(ctx context.Context, after []plan.Step, inspect func(pid int, listener *os.File) error) (Process, error) {
	a := p.actor
	if err := a.finish(ctx, p, after, inspect); err != nil {
		err = a.bootError(ctx, err, p.steps, after)
		a.Close()
		return nil, err
	}
	a.phase("confine")
	if a.keep != nil {
		return a.keep, nil
	}
	return a, nil
}

// SetScratch hands over the descriptor of a writable layer that was made before Boot.
func (p *Parked) SetScratch(f *os.File) { p.actor.scratch = f }

// Close ends a Parked that is not wanted.
func (p *Parked) Close() error { return p.actor.Close() }

func (a *actor) finish(ctx context.Context, p *Parked, after []plan.Step, inspect func(int, *os.File) error) error {
	rest, err := plan.Append(nil, after)
	if err != nil {
		return err
	}
	var confined func(ipc.Cred, *os.File) error
	inspected := inspect == nil
	if inspect != nil {
		if err := a.conn.PassCred(); err != nil {
			return err
		}
		confined = func(sender ipc.Cred, listener *os.File) error { // by the kernel's word, not by the message's
			inspected = true
			if sender.PID <= 0 || sender.PID == a.pid {
				if listener != nil {
					listener.Close()
				}
				return fmt.Errorf("%w: not the program's process said that it is confined, but %d; the init is %d", ErrBoot, sender.PID, a.pid)
			}
			return inspect(sender.PID, listener)
		}
	}
	a.quiet()
	if err := ipc.SendWelcome(ctx, a.conn, ipc.Welcome{Epoch: p.epoch, Plan: rest}); err != nil {
		return err
	}
	if a.keep == nil {
		a.listener.Close()
	}
	_, a.terminal, err = ipc.AwaitReady(ctx, a.conn, confined)
	asked := slices.ContainsFunc(slices.Concat(p.steps, after), func(s plan.Step) bool { return s.Kind == plan.TTY })
	switch {
	case err != nil:
		return err
	case !inspected:
		return fmt.Errorf("%w: it was ready before it could be inspected", ErrBoot)
	case asked != (a.terminal != nil):
		return fmt.Errorf("%w: it was ready with a terminal: %v; one was asked for: %v", ErrBoot, a.terminal != nil, asked)
	}
	return nil
}

// bootError tells why a start failed: a step's own report beats the symptom seen here.
func (a *actor) bootError(ctx context.Context, err error, before, after []plan.Step) error {
	if refused, ok := errors.AsType[*ipc.StepError](err); ok {
		return NewStepError(&launcher.StepError{Step: plan.Kind(refused.Step), Index: int(refused.Index), Errno: refused.Errno}, after)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrBoot, context.Cause(ctx))
	}
	if !errors.Is(err, errDied) && !errors.Is(err, ipc.ErrPeerGone) {
		return fmt.Errorf("%w: %w", ErrBoot, err)
	}
	_ = a.send(syscall.SIGKILL) // it has closed its connection, so it has nothing more to say, and cannot be asked
	<-a.child.Exited()
	exit, lost := a.child.Exit()
	switch {
	case lost != nil:
		return fmt.Errorf("%w: %w", ErrBoot, lost)
	case exit.Fail != nil:
		if exit.Fail.Section == "after" {
			before = after
		}
		return NewStepError(exit.Fail, before)
	case exit.Status.Signaled():
		return fmt.Errorf("%w: its init was killed by %s", ErrBoot, unix.SignalName(exit.Status.Signal()))
	}
	return fmt.Errorf("%w: its init ended with status %d", ErrBoot, exit.Status.ExitStatus())
}

// NewStepError adds words to a launcher.StepError from the section that it belongs to; any other error is returned as it is.
func NewStepError(err error, steps []plan.Step) error {
	var s *launcher.StepError
	if !errors.As(err, &s) {
		return err
	}
	object := s.Describe(steps).Detail
	switch {
	case s.Step == plan.Exec && s.Index < len(steps) && len(steps[s.Index].Strs) > 0:
		object = fmt.Sprintf("exec %q", steps[s.Index].Strs[0]) // not the environment: it may hold secrets
	case s.Step == plan.ExecFD && s.Index < len(steps) && len(steps[s.Index].Strs) > 0:
		name, _, _ := strings.Cut(steps[s.Index].Strs[0], "\x00")
		object = fmt.Sprintf("exec %q by its descriptor", name)
	case s.Step == plan.Idmap && s.Index > 0 && s.Index < len(steps) && steps[s.Index-1].Kind == plan.OpenTree:
		object = "id-map " + steps[s.Index-1].Strs[0]
	case s.Step == 0:
		object = "clone"
	case object == "":
		object = s.Step.String()
	}
	return &StepError{Step: s.Step, Index: s.Index, Object: object, Errno: s.Errno}
}

// pidOf is the pid behind a pidfd, in our pid namespace: by PIDFD_GET_INFO (Linux 6.13), else from fdinfo.
func pidOf(pidfd int) (int, error) {
	const getInfo, wantPID = 0xc040ff0b, 1 // the first, 64-byte version of struct pidfd_info
	var info struct {
		mask, cgroup uint64
		pid          uint32
		_            [44]byte
	}
	info.mask = wantPID
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), getInfo, uintptr(unsafe.Pointer(&info))); e == 0 {
		return int(info.pid), nil
	} else if e == unix.ESRCH {
		return 0, errDied
	}
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, fmt.Errorf("pid of pidfd: %w", err)
	}
	_, line, _ := strings.Cut(string(b), "Pid:")
	line, _, _ = strings.Cut(line, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		return 0, errDied
	}
	return pid, nil
}

// actor is a Process made by Boot and Finish.
type actor struct {
	child    *launcher.Child
	listener *ipc.Listener
	conn     *ipc.Conn
	keep     *peer // what Finish returns where the socket stays open
	pid      int
	terminal *os.File
	scratch  *os.File
	start    time.Time
	phases   []Phase

	signals sync.Mutex // so that Close takes the pidfd from no Signal

	once   sync.Once // of reading the exit report
	exit   Exit
	lost   error
	closed sync.Once
}

// askGrace is far more than an init needs to end what is below it.
const askGrace = 2 * time.Second

func (a *actor) phase(name string) {
	now := time.Now()
	a.phases = append(a.phases, Phase{name, now.Sub(a.start)})
	a.start = now
}

func (a *actor) PID() int           { return a.pid }
func (a *actor) Terminal() *os.File { return a.terminal }
func (a *actor) Scratch() *os.File  { return a.scratch }
func (a *actor) Phases() []Phase    { return a.phases }

func (a *actor) Kill() error {
	if err := a.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Signal goes to the init, which forwards it. An init without a pid namespace
// is not killed but asked, by hanging up, to end what is below it and itself:
// killed, it would leave that to the launcher, which may be dying too.
func (a *actor) Signal(s syscall.Signal) error {
	if s == syscall.SIGKILL && a.child.Bare && a.conn != nil && a.conn.Hangup() == nil {
		time.AfterFunc(askGrace, func() { _ = a.send(syscall.SIGKILL) })
		s = syscall.SIGCONT // the program may have its id, and have stopped it
	}
	return a.send(s)
}

// send signals the init, by pidfd, so never a stranger.
func (a *actor) send(s syscall.Signal) error {
	a.signals.Lock()
	defer a.signals.Unlock()
	select {
	case <-a.child.Exited():
		return os.ErrProcessDone
	default:
	}
	if s == syscall.SIGSTOP || s == syscall.SIGCHLD { // one would stop the init, the other it takes for its own
		return fmt.Errorf("signal %v to actor: its init cannot forward it: %w", s, errors.ErrUnsupported)
	}
	if err := unix.PidfdSendSignal(a.child.Pidfd, s, nil, 0); err == unix.ESRCH {
		return os.ErrProcessDone
	} else if err != nil {
		return fmt.Errorf("signal %v to actor: %w", s, err)
	}
	return nil
}

func (a *actor) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-a.child.Exited():
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
	a.once.Do(func() {
		e, err := a.child.Exit()
		if err != nil {
			a.lost = err
			return
		}
		a.exit = Exit{
			Status: e.Status, MaxRSS: e.MaxRSSBytes, ReadBytes: e.ReadBytes, WrittenBytes: e.WrittenBytes,
			User: time.Duration(e.UserUS) * time.Microsecond, System: time.Duration(e.SystemUS) * time.Microsecond,
		}
		if status, ok := ipc.LastExit(a.conn); ok {
			a.exit.Status, a.exit.Reported = status, true
		}
	})
	return a.exit, a.lost
}

func (a *actor) Close() error {
	a.closed.Do(func() {
		_ = a.Kill()
		<-a.child.Exited()
		if a.child.Lost() {
			if a.conn != nil { // an init without a pid namespace is just killing what is below it
				_ = a.conn.Hangup() // which tells it to, once more
				for err := error(unix.EINTR); err == unix.EINTR; {
					_, err = unix.Poll([]unix.PollFd{{Fd: int32(a.child.Pidfd), Events: unix.POLLIN}}, int(askGrace/time.Millisecond))
				}
			}
			_ = unix.PidfdSendSignal(a.child.Pidfd, unix.SIGKILL, nil, 0)
		}
		if a.conn != nil {
			_, _ = a.Wait(context.Background())
			a.conn.Close()
		}
		if a.listener != nil {
			a.listener.Close()
		}
		for _, f := range []*os.File{a.terminal, a.scratch} {
			if f != nil {
				f.Close()
			}
		}
		a.signals.Lock()
		unix.Close(a.child.Pidfd)
		a.child.Pidfd = -1
		a.signals.Unlock()
	})
	return nil
}
