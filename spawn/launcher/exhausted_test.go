package launcher_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

// below are options of a launcher that is nobody on the host, which the kernel
// therefore holds to its limits.
func below() launcher.Options {
	o := options()
	if o.Namespaces&unix.CLONE_NEWUSER == 0 {
		o.Namespaces |= unix.CLONE_NEWUSER
		o.UIDs, o.GIDs = []launcher.IDMap{{Count: 1}}, []launcher.IDMap{{Count: 1}}
	}
	return o
}

func nofile(soft uint64) plan.Step {
	return step(plan.Rlimit, []uint64{unix.RLIMIT_NOFILE, soft, 256})
}

// underWay has n descriptors of this user lie in a socket, sent and not received, until the end of the test.
func underWay(t *testing.T, n int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nothing(pair[:]) })
	if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(append(make([]int, n-1), pair[1])...), nil, 0); err != nil {
		t.Fatal(err)
	}
}

// impatient is a ctx that turns a hang into an error.
func impatient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// Descriptors that the kernel refuses to carry do not take the answer with them.
func TestAnswerWithoutDescriptors(t *testing.T) {
	watched(t)
	l := start(t, below())
	dir := spawntest.Dir(t)
	if _, err := l.Run([]plan.Step{nofile(16)}); err != nil {
		t.Fatal(err)
	}
	underWay(t, 32)
	if _, err := l.Spawn(impatient(t), parked(dir)); !errors.Is(err, unix.EMFILE) {
		t.Errorf("spawn: %v", err)
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Spawn(given, parked(dir)); err == nil {
		t.Error("a spawn that nobody waits for")
	}
	if fds, err := l.Run([]plan.Step{step(plan.OpenFile, []uint64{plan.SlotListen, unix.O_RDONLY}, "/")}); err != nil || len(fds) > 0 {
		t.Errorf("run: %v, %v", fds, err)
	}
	for live := 1; live > 0; { // of the two, nobody holds a pidfd: the launcher kills them
		if impatient(t).Err() != nil {
			t.Fatalf("%d children live on", live)
		}
		_, live = l.Count()
	}
}

// boot forks a child, shakes hands with it and sends it the rest of its plan.
func boot(t *testing.T, l *launcher.Launcher, flags uint64, after ...plan.Step) (*launcher.Child, *ipc.Conn) {
	t.Helper()
	s := parked(spawntest.Dir(t))
	s.CloneFlags = flags
	c := spawned(t, l, s)
	listener, err := ipc.NewListener(os.NewFile(uintptr(c.Returned[0]), "listener"))
	if err != nil {
		t.Fatal(err)
	}
	c.Returned = nil
	t.Cleanup(func() { listener.Close() })
	conn, _, err := ipc.AcceptHello(impatient(t), listener, ipc.Expect{Actor: "actor", Epoch: 1, Nonce: [16]byte([]byte(strings.Repeat("n", 16))), PID: pidOf(t, c.Pidfd)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	rest, err := plan.Append(nil, after)
	if err == nil {
		err = ipc.SendWelcome(impatient(t), conn, ipc.Welcome{Epoch: 1, Plan: rest})
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, conn
}

// sleeping is a program, in a process that may have descriptors again.
var sleeping = []plan.Step{step(plan.Fork, []uint64{0}), nofile(256), step(plan.Exec, []uint64{2, 0}, "/bin/sleep", "sleep\x001000\x00", "", "")}

// An init that could not learn of its program's death does not live on with it.
func TestInitWithoutDescriptors(t *testing.T) {
	l := watched(t)
	for _, flags := range []uint64{namespaces, 0} {
		c, _ := boot(t, l, flags, append([]plan.Step{nofile(1)}, sleeping...)...)
		if e, err := exit(t, c); err != nil || e.Status.ExitStatus() != 125 {
			t.Errorf("flags %#x: %+v, %v", flags, e, err)
		}
		release(t, c)
	}
}

// A terminal that cannot be handed out is a failed step, not a wait.
func TestTerminalNotCarried(t *testing.T) {
	watched(t)
	underWay(t, 1)
	c, conn := boot(t, start(t, below()), namespaces, append([]plan.Step{step(plan.TTY, []uint64{24, 80, 45, 0, 0}), nofile(0)}, sleeping...)...)
	_, _, err := ipc.AwaitReady(impatient(t), conn, nil)
	if failed, ok := errors.AsType[*ipc.StepError](err); !ok || failed.Errno != unix.ETOOMANYREFS {
		t.Errorf("got %v", err)
	}
	if e, err := exit(t, c); err != nil || e.Fail == nil || e.Fail.Section != "after" || e.Fail.Errno != unix.ETOOMANYREFS {
		t.Errorf("%+v, %v", e, err)
	}
	release(t, c)
}

// A first half that ends without a handshake has no second.
func TestNoHandshake(t *testing.T) {
	l := watched(t)
	c := spawned(t, l, launcher.Spawn{CloneFlags: namespaces, IntoCgroup: -1, Before: []plan.Step{step(plan.Sync, nil)}})
	e, err := exit(t, c)
	if err != nil || e.Fail == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	wantStep(t, e.Fail, "after", plan.Fork, 0, unix.EBADMSG)
	release(t, c)
}

// starved is the role of a process whose first launcher finds no descriptors left.
func starved() {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	few := unix.Rlimit{Cur: 3, Max: limit.Max}
	if err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &few)
	}
	if err == nil {
		if _, err = launcher.Start(options()); errors.Is(err, unix.EMFILE) {
			err = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		} else {
			err = fmt.Errorf("without descriptors: %w", err)
		}
	}
	if err == nil {
		var l *launcher.Launcher
		if l, err = launcher.Start(options()); err == nil {
			err = l.Close()
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// A launcher that could not be started for want of descriptors can be later.
func TestStartAfterStarving(t *testing.T) {
	cmd := exec.CommandContext(impatient(t), os.Args[0])
	cmd.Env = append(os.Environ(), spawntest.RoleEnv+"=starved")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
