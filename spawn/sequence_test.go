package spawn_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/ipc"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(60)

// bounded is a context that turns a hang into a failure.
func (h *host) bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	h.t.Cleanup(cancel)
	return ctx
}

// start boots an init that does not lie about this.
func (h *host) start(ctx context.Context, lie string, inspect func(int, *os.File) error) spawn.Process {
	h.t.Helper()
	p, err := h.boot(ctx, lie, inspect)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// boot runs the whole sequence with a lying init.
func (h *host) boot(ctx context.Context, lie string, inspect func(int, *os.File) error) (spawn.Process, error) {
	h.t.Helper()
	s, id := h.spawn(lie)
	parked, err := spawn.Boot(ctx, h.Launcher, s, id)
	if err != nil {
		return nil, err
	}
	return parked.Finish(ctx, []plan.Step{{Kind: plan.Umask, Nums: []uint64{0}}, {Kind: plan.Chdir, Strs: []string{"/after"}}}, inspect)
}

// left are the processes besides the launcher.
func (h *host) left() (all []spawntest.Proc) {
	for _, p := range spawntest.Descendants() {
		if p.PID != h.PID() && p.State != 'Z' && p.Name != "sleep" && p.Name != "exe" {
			all = append(all, p)
		}
	}
	return all
}

// alone checks that nothing but the launcher is left.
func (h *host) alone(after string) {
	h.t.Helper()
	for _, p := range h.left() {
		h.t.Errorf("%s: %+v is left", after, p)
	}
}

// A lie ends the start at once: none of these waits for its deadline.
func TestLiesAreFoundOut(t *testing.T) {
	h := newHost(t)
	errAny := errors.New("")
	for lie, want := range map[string]error{
		"exits": spawn.ErrBoot, "kills itself": spawn.ErrBoot, "half, then exit": spawn.ErrBoot, "hangs up": spawn.ErrBoot,
		"huge length": ipc.ErrFrameTooLarge, "above the cap": ipc.ErrFrameTooLarge, "no length": ipc.ErrMalformed, "garbage": ipc.ErrMalformed,
		"wrong protocol": ipc.ErrRefused, "wrong actor": ipc.ErrRefused, "wrong epoch": ipc.ErrRefused, "wrong nonce": ipc.ErrRefused,
		"ready too early": ipc.ErrUnexpected, "failed at once": ipc.ErrUnexpected, "exit at once": ipc.ErrUnexpected,
		"hello with 250": ipc.ErrDescriptors, "strangers only": ipc.ErrTooManyStrangers,
		"welcomed, then exits": spawn.ErrBoot, "hello twice": ipc.ErrUnexpected, "exit before ready": ipc.ErrUnexpected,
		"unknown type":   ipc.ErrUnexpected,
		"absurd failure": errAny, "failure of nothing": errAny, "failure elsewhere": unix.ENOENT, "failure with a file": ipc.ErrDescriptors,
		"ready with a file": spawn.ErrBoot, "ready with two files": ipc.ErrDescriptors, "ready with 250 files": ipc.ErrDescriptors, "confined, uninvited": ipc.ErrUnexpected,
		"above the larger cap": ipc.ErrFrameTooLarge,
	} {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		p, err := h.boot(ctx, lie, nil)
		switch {
		case err == nil || p != nil:
			t.Errorf("%s: %v, %v: want an error", lie, p, err)
		case ctx.Err() != nil:
			t.Errorf("%s: was known by the deadline only: %v", lie, err)
		case want != errAny && !errors.Is(err, want):
			t.Errorf("%s: %v, want %v", lie, err, want)
		}
		if step, ok := errors.AsType[*spawn.StepError](err); !ok && !errors.Is(err, spawn.ErrBoot) {
			t.Errorf("%s: %v is neither a step nor ErrBoot", lie, err)
		} else if ok && (step.Program() || step.Object == "") {
			t.Errorf("%s: %#v", lie, step)
		}
		if err != nil && strings.Contains(err.Error(), "status 99") {
			t.Errorf("%s: the fake could not tell its lie: %v", lie, err)
		}
		cancel()
		h.alone(lie)
	}
}

// How an init ended that said nothing is in the error.
func TestBootErrorsSayHowTheInitEnded(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	for lie, want := range map[string]string{
		"exits": "status 3", "welcomed, then exits": "status 4", "kills itself": "killed", "half, then exit": "status 3",
		"wrong nonce": "nonce", "wrong epoch": "epoch", "absurd failure": "step-65535", "failure elsewhere": "chdir",
	} {
		if _, err := h.boot(ctx, lie, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not say %q", lie, err, want)
		}
	}
	if _, err := h.boot(ctx, "wrong nonce", nil); err == nil || len(err.Error()) > 200 {
		t.Errorf("the nonce is a secret: %v", err)
	}
}

// Silence ends with the caller's patience, at every place of the conversation.
func TestSilenceEndsWithTheContext(t *testing.T) {
	h := newHost(t)
	why := errors.New("enough")
	alone := func(lie string, err error) {
		// What a launcher forks that did not answer in time is killed then, not before the start returns.
		for late := time.Now().Add(deadline); strings.Contains(err.Error(), "did not answer") && len(h.left()) > 0 && time.Now().Before(late); {
			time.Sleep(time.Millisecond)
		}
		h.alone(lie)
	}
	for _, lie := range []string{"never connects", "says nothing", "half a length", "half a hello", "deaf"} {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_, err := h.boot(ctx, lie, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, spawn.ErrBoot) {
			t.Fatalf("%s, deadline: %v", lie, err)
		}
		cancel()
		alone(lie, err)
		cause, abort := context.WithCancelCause(context.Background())
		timer := time.AfterFunc(50*time.Millisecond, func() { abort(why) })
		_, err = h.boot(cause, lie, nil)
		if !errors.Is(err, why) || !errors.Is(err, spawn.ErrBoot) {
			t.Fatalf("%s, cancelled: %v", lie, err)
		}
		timer.Stop()
		abort(nil)
		alone(lie, err)
	}
	// A launcher that does not answer is a peer that does not, whatever the machine.
	if err := unix.Kill(h.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	if _, err := h.boot(ctx, "ready", nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, spawn.ErrBoot) {
		t.Errorf("a stopped launcher: %v", err)
	}
	cancel()
	if err := unix.Kill(h.PID(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// Other processes at the socket delay nothing and get nothing.
func TestStrangersAreTurnedAway(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	if err := h.start(ctx, "stranger, right", nil).Close(); err != nil {
		t.Error(err)
	}
	h.alone("a close")
}

// Inspect sees whom the kernel names, and never the init, whatever is claimed.
func TestInspectIsNotLedAstray(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	for _, lie := range []string{"confined as itself", "confined as nobody", "ready"} { // the last one skips it
		p, err := h.boot(ctx, lie, func(pid int, _ *os.File) error {
			t.Errorf("%s: inspected %d", lie, pid)
			return nil
		})
		if !errors.Is(err, spawn.ErrBoot) || ctx.Err() != nil {
			t.Errorf("%s: %v", lie, err)
		}
		if p != nil {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	p := h.start(ctx, "confined as another", func(pid int, _ *os.File) error {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err != nil || string(name) != "exe\n" {
			t.Errorf("inspected %q instead of who spoke, %v", name, err)
		}
		return nil
	})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	h.alone("the inspections")
}

func TestExitIsWhatTheKernelSays(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	for lie, want := range map[string]struct {
		status   syscall.WaitStatus
		reported bool
	}{
		"ready, then exits":     {5 << 8, false},
		"reports, then exits":   {7 << 8, true}, // of the program, which is the init's to tell
		"reports garbage":       {9 << 8, false},
		"reports half":          {9 << 8, false},
		"reports with files":    {9 << 8, false},
		"leaves its connection": {9 << 8, false},
		"floods":                {9 << 8, false},
	} {
		p, err := h.boot(ctx, lie, nil)
		if err != nil {
			t.Errorf("%s: %v", lie, err)
			continue
		}
		exit, err := p.Wait(ctx)
		if err != nil || exit.Status != want.status || exit.Reported != want.reported {
			t.Errorf("%s: %+v, %v, want status %#x, reported %v", lie, exit, err, want.status, want.reported)
		}
		if err := p.Close(); err != nil {
			t.Errorf("%s: %v", lie, err)
		}
		h.alone(lie)
	}
}

func TestProcessOfALyingInit(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	p := h.start(ctx, "ready", nil)
	if p.PID() <= 1 || p.Terminal() != nil || p.Scratch() != nil || len(p.Phases()) == 0 {
		t.Errorf("pid %d, terminal %v, scratch %v, phases %v", p.PID(), p.Terminal(), p.Scratch(), p.Phases())
	}
	short, over := context.WithTimeout(ctx, 10*time.Millisecond)
	if _, err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for what lives: %v", err)
	}
	over()
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if exit, err := p.Wait(ctx); err != nil || exit.Status.Signal() != unix.SIGKILL {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// A plan whose first half fails is told by the step that failed.
func TestBootNamesTheStep(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	for name, c := range map[string]struct {
		change func(*launcher.Spawn)
		step   plan.Kind
		errno  unix.Errno
	}{
		"prepare": {func(s *launcher.Spawn) {
			s.Prepare = append(s.Prepare, plan.Step{Kind: plan.Chdir, Strs: []string{"/no/such"}})
		}, plan.Chdir, unix.ENOENT},
		"clone":  {func(s *launcher.Spawn) { s.CloneFlags = unix.CLONE_NEWNS | unix.CLONE_FS }, 0, unix.EINVAL},
		"before": {func(s *launcher.Spawn) { s.Before[0] = plan.Step{Kind: plan.Chdir, Strs: []string{"/no/such"}} }, plan.Chdir, unix.ENOENT},
		"exec":   {func(s *launcher.Spawn) { s.Before[1].Strs[0] = "/no/such" }, plan.Exec, unix.ENOENT},
	} {
		s, id := h.spawn("ready")
		c.change(&s)
		_, err := spawn.Boot(ctx, h.Launcher, s, id)
		step, ok := errors.AsType[*spawn.StepError](err)
		if !ok || step.Step != c.step || step.Errno != c.errno || step.Object == "" {
			t.Errorf("%s: %v (%#v), want %v: %v", name, err, step, c.step, c.errno)
		}
	}
	s, id := h.spawn("ready")
	s.Prepare = nil
	if _, err := spawn.Boot(ctx, h.Launcher, s, id); !errors.Is(err, spawn.ErrBoot) {
		t.Errorf("a plan without a listener: %v", err)
	}
	h.alone("failed boots")
}

// A second half that no Welcome can carry is refused, and the actor is gone.
func TestFinishRefusesWhatDoesNotFit(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	for _, after := range [][]plan.Step{
		{{Kind: plan.Hostname, Strs: []string{strings.Repeat("x", plan.MaxBytes)}}},
		{{Kind: plan.Hostname, Strs: []string{strings.Repeat("x", ipc.MaxPlan-8)}}},
		{{Kind: 65535}},
		{{Kind: plan.TTY, Nums: make([]uint64, 5)}}, // this init hands out no terminal
	} {
		s, id := h.spawn("ready")
		parked, err := spawn.Boot(ctx, h.Launcher, s, id)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := parked.Finish(ctx, after, nil); err == nil || p != nil {
			t.Errorf("%v, %v", p, err)
		}
		h.alone("a refused half")
	}
	s, id := h.spawn("ready")
	parked, err := spawn.Boot(ctx, h.Launcher, s, id)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // one that is not wanted
		if err := parked.Close(); err != nil {
			t.Error(err)
		}
	}
	h.alone("a parked actor that was closed")
}

// The launcher's death ends a wait for a peer that will not come.
func TestLauncherLostDuringBoot(t *testing.T) {
	for _, lie := range []string{"never connects", "half a hello", "deaf"} {
		t.Run(lie, func(t *testing.T) {
			h := newHost(t)
			ctx := h.bounded()
			timer := time.AfterFunc(100*time.Millisecond, func() { _ = unix.Kill(h.PID(), unix.SIGKILL) })
			defer timer.Stop()
			if _, err := h.boot(ctx, lie, nil); !errors.Is(err, launcher.ErrLost) || ctx.Err() != nil {
				t.Errorf("%v, want ErrLost", err)
			}
		})
	}
}

func TestAsUser(t *testing.T) { spawntest.AsUser(t, "") }
