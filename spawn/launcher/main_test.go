package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) {
	spawntest.Main(m, map[string]func(){"supervisor": supervise, "starved": starved})
}

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(30)

// options are of a launcher in namespaces of its own, for whoever we are.
func options() launcher.Options {
	o := launcher.Options{Namespaces: launcher.Isolated}
	if uid := os.Geteuid(); uid != 0 {
		o.Namespaces |= unix.CLONE_NEWUSER
		o.UIDs = []launcher.IDMap{{Inside: 0, Outside: uid, Count: 1}}
		o.GIDs = []launcher.IDMap{{Inside: 0, Outside: os.Getegid(), Count: 1}}
	}
	return o
}

// start makes a launcher, followed by the leak check.
func start(t testing.TB, o launcher.Options) *launcher.Launcher {
	t.Helper()
	l, err := launcher.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func watched(t testing.TB) *launcher.Launcher {
	t.Helper()
	l := start(t, options()) // the first of a process makes what the process keeps
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	spawntest.Watch(t)
	return start(t, options())
}

var names atomic.Int64

// socket is a new name for one; files of a dead launcher go with the directory.
func socket(dir string) string { return filepath.Join(dir, fmt.Sprint("s", names.Add(1))) }

const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

func step(k plan.Kind, nums []uint64, strs ...string) plan.Step {
	return plan.Step{Kind: k, Nums: nums, Strs: strs}
}

// parked is a child that has connected to a socket where nobody answers.
func parked(dir string) launcher.Spawn {
	name := socket(dir)
	return launcher.Spawn{
		CloneFlags: namespaces, IntoCgroup: -1,
		Prepare: []plan.Step{step(plan.Listen, []uint64{plan.SlotListen, plan.NoSlot}, name)},
		Before: []plan.Step{
			step(plan.Sync, nil), step(plan.Connect, []uint64{1, 1}, name, "actor", strings.Repeat("n", 16)), step(plan.Welcome, nil),
		},
	}
}

// release closes what a child came with.
func release(t testing.TB, c *launcher.Child) {
	t.Helper()
	for _, fd := range append([]int{c.Pidfd}, c.Returned...) {
		if err := unix.Close(fd); err != nil {
			t.Errorf("descriptor %d of a child: %v", fd, err)
		}
	}
}

func spawned(t testing.TB, l *launcher.Launcher, s launcher.Spawn) *launcher.Child {
	t.Helper()
	c, err := l.Spawn(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exit waits for the end of a child.
func exit(t testing.TB, c *launcher.Child) (launcher.Exit, error) {
	t.Helper()
	select {
	case <-c.Exited():
	case <-time.After(deadline):
		t.Fatal("the exit of a child is not announced")
	}
	return c.Exit()
}

func done(t testing.TB, l *launcher.Launcher) {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(deadline):
		t.Fatal("the launcher is not gone")
	}
}

// pidOf is the pid behind a pidfd, -1 when it is dead.
func pidOf(t testing.TB, pidfd int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprint("/proc/self/fdinfo/", pidfd))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte("Pid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pid, err := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits until nothing below this process is left but zombies.
func gone(t testing.TB) {
	t.Helper()
	var left []spawntest.Proc
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(time.Millisecond) {
		left = left[:0]
		for _, p := range spawntest.Descendants() {
			if p.State != 'Z' {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("still alive: %+v", left)
}

// wantStep checks what err says of a step.
func wantStep(t testing.TB, err error, section string, kind plan.Kind, index int, errno unix.Errno) {
	t.Helper()
	s, ok := errors.AsType[*launcher.StepError](err)
	if !ok || s.Section != section || s.Step != kind || s.Index != index || s.Errno != errno || !errors.Is(err, errno) {
		t.Errorf("got %v (%#v), want %s step %d: %v: %v", err, s, section, index, kind, errno)
	}
}

// nothing closes a connection that must bring no descriptors: tests read raw answers with it.
func nothing(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
