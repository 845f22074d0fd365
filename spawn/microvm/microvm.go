// Package microvm is the backend of virtual machines: each actor has a machine
// and a kernel of its own, QEMU's, which is itself an actor of package native:
// without capabilities, network and a root of its own, behind seccomp and
// Landlock, in the actor's cgroup. In the guest package native runs the program,
// with the same walls on the guest's kernel.
//
//	b := microvm.New(microvm.Options{})
//	defer b.Close()
//	p, err := b.Start(ctx, &spawn.Request{ID: "a", Argv: []string{"true"}, …})
//
// Three processes of one program play the parts:
//
//	supervisor   this package: makes a native Request of an actor's Request
//	Monitor      native's program: packs an initramfs, starts QEMU, moves bytes
//	Guest        process 1 of the guest: a root out of what is shared, then native
//
// What a guest sends is read by Monitor, in the sandbox; the supervisor reads
// what Monitor says, as hostile, and decides by the cgroup and native's word.
//
// Non-goals: networks in the guest, terminals, snapshots, other VMMs, fetching
// QEMU and kernels (Start refuses by name; see vm/debian).
package microvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"sandboxd/ipc"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/vm/guest"
)

// Options of the backend.
type Options struct {
	// Native are those of the backend that confines QEMU.
	Native native.Options
	// Program is the path of a static program that is both Monitor and Guest;
	// "": the file sandboxd beside the running program.
	Program string
	// MonitorArgs and GuestArgs lead Program to Monitor and to Guest; nil: those of sandboxd.
	MonitorArgs, GuestArgs []string
	// Cache is the directory of QEMU and the kernel, see vm/debian; "": the user's own.
	Cache string
	// Kernel is the path of a bzImage with 9p and virtio; "": the one in Cache.
	// Modules is the directory of its modules; "": /lib/modules/RELEASE.
	Kernel, Modules string
}

// Backend implements spawn.Backend.
type Backend struct {
	options Options
	native  *native.Backend

	mu    sync.Mutex
	noKVM string // why, where a guest did not boot with it and did without
}

// New makes the backend. Nothing is started before the first Start.
func New(o Options) *Backend {
	if o.MonitorArgs == nil {
		o.MonitorArgs = []string{"vm", "monitor"}
	}
	if o.GuestArgs == nil {
		o.GuestArgs = []string{"vm", "microvm"}
	}
	return &Backend{options: o, native: native.New(o.Native)}
}

// Name is "microvm".
func (b *Backend) Name() string { return "microvm" }

// Close implements spawn.Backend.
func (b *Backend) Close() error { return b.native.Close() }

// Start implements spawn.Backend.
func (b *Backend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	if err := b.Check(r); err != nil {
		return nil, err
	}
	if _, err := spawn.Program(r); err != nil {
		return nil, err
	}
	s, err := b.supply()
	if err != nil {
		return nil, err
	}
	j := s.job(r)
	var exe *os.File
	if r.Exe != nil {
		if exe, err = spawn.OpenExe(r); err != nil {
			return nil, err
		}
		defer exe.Close()
		if err := j.program(exe); err != nil {
			return nil, err
		}
	}
	device, why := b.kvm()
	return b.hardware(ctx, device, why, func(ctx context.Context, device *os.File, why string) (spawn.Process, error) {
		return s.start(ctx, r, j, exe, device, why)
	})
}

// start starts a machine: with KVM's device, or emulated, and then why.
func (s *supply) start(ctx context.Context, r *spawn.Request, j *job, exe, device *os.File, why string) (spawn.Process, error) {
	program, err := os.Open(s.program)
	if err != nil {
		return nil, programGate(err)
	}
	defer program.Close()
	outer, err := s.outer(r)
	if err != nil {
		return nil, err
	}
	outer.Exe = program
	if j.Machine.KVM = device != nil; device != nil {
		outer.Guest = &spawn.Guest{Keep: []*os.File{device}}
	}
	inner, err := s.native.Start(ctx, outer)
	if err != nil {
		return nil, asVMM(err)
	}
	p := &process{Process: inner, machine: s.machine(why), read: make(chan struct{}), phases: inner.Phases()}
	if err := p.boot(ctx, j, exe); err != nil {
		p.Close()
		return nil, err
	}
	go p.listen()
	if !r.Peer {
		return p, nil
	}
	return spawn.WithPeers(p, inner), nil
}

// asVMM says that what failed to start is not yet the user's program.
func asVMM(err error) error {
	if step, ok := errors.AsType[*spawn.StepError](err); ok && step.Program() {
		return fmt.Errorf("%w: the monitor of the machine: %s", spawn.ErrBoot, step.Error())
	}
	return err
}

// process is native's, whose program is the monitor.
type process struct {
	spawn.Process
	machine string
	raw     *ipc.Conn
	conn    *guest.Conn // to the monitor
	phases  []spawn.Phase

	read chan struct{} // closed when the monitor has nothing more to say
	last final         // read after that
	lost string

	closing sync.Once
}

// unbooted is the end of a start in which the program was not begun.
type unbooted struct{ error }

func (u unbooted) Unwrap() error { return u.error }

// boot gives the monitor its job and waits for the program. The wait has four
// exits: it runs, something died or failed, the time is up, the caller gave up.
func (p *process) boot(ctx context.Context, j *job, exe *os.File) (err error) {
	began, proceeds := time.Now(), false
	defer func() {
		if err != nil {
			close(p.read)
		}
		if err != nil && !proceeds {
			err = unbooted{err}
		}
	}()
	raw, _, err := p.Process.(spawn.Peers).Accept(ctx)
	if err != nil {
		return p.why(ctx, err)
	}
	p.raw, p.conn = raw, &guest.Conn{RW: raw}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	err = j.send(p.conn, exe)
	for err == nil {
		var k guest.Kind
		var body []byte
		if k, body, err = p.conn.Receive(); err != nil {
			break
		}
		now := time.Now()
		switch k {
		case frameBooted:
			p.phases = append(p.phases, spawn.Phase{Name: "boot", Took: now.Sub(began)})
			began, proceeds = now, true
			err = p.conn.Send(frameProceed, nil)
		case frameStarted:
			if !stop() {
				return fmt.Errorf("%w: %w", spawn.ErrBoot, context.Cause(ctx))
			}
			p.phases = append(p.phases, spawn.Phase{Name: "exec", Took: now.Sub(began)})
			return nil
		case frameFailed:
			return failure(body)
		default:
			err = fmt.Errorf("the monitor sent a frame %q", k)
		}
	}
	return p.why(ctx, err)
}

// why is the reason of a boot that came to nothing.
func (p *process) why(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, context.Cause(ctx))
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, ipc.ErrPeerGone) {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, err)
	}
	_ = p.Process.Kill() // it has hung up
	exit, err := p.Process.Wait(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the monitor of the machine: %w", spawn.ErrBoot, err)
	case exit.Status.Signaled():
		return fmt.Errorf("%w: the monitor of the machine was killed by signal %d", spawn.ErrBoot, exit.Status.Signal())
	}
	return fmt.Errorf("%w: the monitor of the machine ended with status %d before the program began", spawn.ErrBoot, exit.Status.ExitStatus())
}

// listen takes the monitor's last word, one at most.
func (p *process) listen() {
	defer close(p.read)
	k, body, err := p.conn.Receive()
	switch {
	case err != nil: // killed, by whomever: native and the cgroup say more
	case k == frameFinal:
		p.last = readFinal(body)
	case k == frameLost:
		p.lost = word(body)
	default:
		p.lost = fmt.Sprintf("the monitor of the machine sent a frame %q", k)
		_ = p.Process.Kill()
	}
}

// Signal implements spawn.Process: through the monitor and the guest's init.
func (p *process) Signal(s syscall.Signal) error {
	if s == syscall.SIGKILL || s == syscall.SIGSTOP || s == syscall.SIGCHLD {
		return p.Process.Signal(s)
	}
	if s <= 0 || s > 64 {
		return fmt.Errorf("signal %d to actor: %w", s, syscall.EINVAL)
	}
	if err := p.Process.Signal(0); err != nil {
		return err
	}
	frame := []byte{byte(frameSignal), 1, 0, 0, 0, byte(s)}
	n, err := p.raw.TryWrite(frame) // whoever is there may not keep us waiting
	if err == nil && n < len(frame) {
		err = errors.New("its monitor does not read")
	}
	if err == nil {
		return nil
	}
	if p.Process.Signal(0) != nil || errors.Is(err, ipc.ErrPeerGone) {
		return os.ErrProcessDone
	}
	return fmt.Errorf("signal %v to actor: %w", s, err)
}

// Wait implements spawn.Process.
func (p *process) Wait(ctx context.Context) (spawn.Exit, error) {
	exit, err := p.Process.Wait(ctx)
	if err != nil {
		return exit, err
	}
	select {
	case <-p.read: // the connection ends with the monitor
	case <-ctx.Done():
		return spawn.Exit{}, context.Cause(ctx)
	}
	g := spawn.GuestEnd(p.last)
	g.Machine = p.machine
	if exit.Reported && p.lost != "" {
		g.Lost, exit.Reported = p.lost, false
	}
	exit.Guest = &g
	return exit, nil
}

// Phases implements spawn.Process.
func (p *process) Phases() []spawn.Phase { return p.phases }

// Scratch is nil: the writable layer is the guest's.
func (p *process) Scratch() *os.File { return nil }

// Close implements spawn.Process.
func (p *process) Close() error {
	err := p.Process.Close()
	p.closing.Do(func() {
		if p.raw != nil {
			<-p.read // its other end is dead
			p.raw.Close()
		}
	})
	return err
}
