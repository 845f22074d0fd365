package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
)

// process is a native actor that runs runsc, and the connection to the init on gVisor's kernel.
type process struct {
	spawn.Process // around it
	kernel        string
	conn          *ipc.Conn
	before, after []spawn.Phase

	signals sync.Mutex
	once    sync.Once // of reading the exit report
	exit    spawn.Exit
}

// open is a process whose program may connect: through gVisor, to the socket of the actor around it.
type open struct {
	*process
	spawn.Peers
}

// Kernel implements spawn.OtherKernel.
func (p *process) Kernel() string { return p.kernel }

// meet waits for the init in the guest and gives it the program. Who connects is
// a process of the actor, says the kernel; that it is the init, and not another
// one, says the nonce, which nobody else has been told.
func (p *process) meet(ctx context.Context, g *guest, after []plan.Step, open bool) error {
	door, ok := p.Process.(spawn.Peers)
	if !ok {
		return errors.New("gvisor: the actor around it has no socket")
	}
	conn, cred, err := door.Accept(ctx)
	if err != nil {
		return p.bootError(ctx, err, g, after)
	}
	p.conn = conn
	if err := executes(cred.PID, g.outer.Exe); err != nil {
		return p.bootError(ctx, err, g, after)
	}
	if _, err := ipc.ReadHello(ctx, conn, g.id.Expect(cred.PID)); err != nil {
		return p.bootError(ctx, err, g, after)
	}
	if !open {
		if err := door.Shut(); err != nil {
			return err
		}
	}
	rest, err := plan.Append(nil, after)
	if err != nil {
		return err
	}
	if err := ipc.SendWelcome(ctx, conn, ipc.Welcome{Epoch: g.id.Epoch, Plan: rest}); err != nil {
		return p.bootError(ctx, err, g, after)
	}
	_, terminal, err := ipc.AwaitReady(ctx, conn, nil)
	if terminal != nil {
		terminal.Close()
		err = errors.New("a descriptor came out of the guest")
	}
	return p.bootError(ctx, err, g, after)
}

// executes refuses a process that does not run this program, by the host kernel's word: the report names its version.
func executes(pid int, program *os.File) error {
	theirs, err1 := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
	ours, err2 := program.Stat()
	if err := errors.Join(err1, err2); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("program of process %d: %w: %w", pid, os.ErrProcessDone, err)
	} else if err != nil {
		return fmt.Errorf("program of process %d: %w", pid, err)
	}
	if !os.SameFile(theirs, ours) {
		return fmt.Errorf("process %d said hello, and does not run %s", pid, program.Name())
	}
	return nil
}

// bootError tells why a start failed: a step's own report beats the symptom.
func (p *process) bootError(ctx context.Context, err error, g *guest, after []plan.Step) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*ipc.StepError](err); ok {
		return spawn.NewStepError(&launcher.StepError{Step: plan.Kind(refused.Step), Index: int(refused.Index), Errno: refused.Errno}, after)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, context.Cause(ctx))
	}
	if !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, ipc.ErrPeerGone) {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, err)
	}
	_ = p.Kill() // it has hung up, so it has nothing more to say
	exit, lost := p.Process.Wait(context.Background())
	var record [8]byte
	if _, err := g.record.ReadAt(record[:], 0); err == nil {
		if failed := launcher.Failed(record); failed != nil {
			if failed.Section == "after" {
				return spawn.NewStepError(failed, after)
			}
			return spawn.NewStepError(failed, g.before)
		}
	}
	if lost != nil {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, lost)
	}
	said := make([]byte, 1<<10)
	n, _ := g.said.ReadAt(said, 0)
	if n == 0 {
		return fmt.Errorf("%w: gVisor ended with status %#x and said nothing: %w", spawn.ErrBoot, uint32(exit.Status), err)
	}
	return fmt.Errorf("%w: gVisor: %s", spawn.ErrBoot, strings.TrimSpace(string(said[:n])))
}

func (p *process) Phases() []spawn.Phase {
	return slices.Concat(p.before, p.Process.Phases(), p.after)
}

// Signal goes to the init in the guest, which passes it on: no pidfd leads there.
func (p *process) Signal(s syscall.Signal) error {
	if s == syscall.SIGKILL || s == syscall.SIGSTOP || s == syscall.SIGCHLD {
		return p.Process.Signal(s) // ends all of it, or is refused
	}
	if s < 0 || s > 64 {
		return fmt.Errorf("signal %v to actor: %w", s, unix.EINVAL)
	}
	if s == 0 {
		return p.Process.Signal(s)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Process.Wait(over); !errors.Is(err, context.Canceled) {
		return os.ErrProcessDone
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	p.signals.Lock()
	defer p.signals.Unlock()
	err := p.conn.Send(ctx, &ipc.Signal{Number: uint8(s)})
	if errors.Is(err, ipc.ErrPeerGone) || errors.Is(err, os.ErrClosed) {
		return os.ErrProcessDone
	}
	return err
}

// Wait returns when all of the outer actor is dead. How the program ended, the init in the guest has said.
func (p *process) Wait(ctx context.Context) (spawn.Exit, error) {
	exit, err := p.Process.Wait(ctx)
	if err != nil {
		return exit, err
	}
	p.once.Do(func() {
		p.exit = exit
		p.exit.Reported = false // what the outer init says of runsc is not about the program
		if p.conn == nil {
			return
		}
		if status, ok := ipc.LastExit(p.conn); ok {
			p.exit.Status, p.exit.Reported = status, true
		}
	})
	return p.exit, nil
}

// Close implements spawn.Process.
func (p *process) Close() error {
	err := p.Process.Close()
	_, _ = p.Wait(context.Background())
	if p.conn != nil {
		p.conn.Close()
	}
	return err
}
