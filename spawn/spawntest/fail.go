package spawntest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// failTests are about starts that do not come to be. The leak check behind
// each of them shows that nothing is left.
var failTests = []test{
	{"NotFound", "", testNotFound},
	{"NotExecutable", "", testNotExecutable},
	{"BadDir", "", testBadDir},
	{"DirByDescriptor", "", testDirByDescriptor},
	{"BadArgv", "", testBadArgv},
	{"BootDeath", "", testBootDeath},
	{"ContextOver", "", testContextOver},
	{"Deadline", "", testDeadline},
	{"Cancel", "", testCancel},
	{"DescriptorsExhausted", "", testDescriptorsExhausted},
}

// wantStep checks that err names a step with this errno, and whether it is the program's.
func wantStep(t testing.TB, err error, errno unix.Errno, program bool) {
	t.Helper()
	step, ok := errors.AsType[*spawn.StepError](err)
	if !ok || step.Errno != errno || step.Program() != program || step.Object == "" || !errors.Is(err, errno) {
		t.Errorf("got %v (%#v), want a step with %v; that it is the program's: %v", err, step, errno, program)
	}
}

func testNotFound(t *testing.T, s *suite) {
	b := s.open(t)
	for _, name := range []string{"no-such-program", "/no/such/program", "./no-such-program", "/etc/passwd/x", strings.Repeat("x", 300)} {
		_, err := s.try(t, bounded(t), b, nil, name)
		errno := unix.ENOENT
		if name == "/etc/passwd/x" {
			errno = unix.ENOTDIR
		}
		if err != nil && errors.Is(err, unix.ENAMETOOLONG) && len(name) > 255 {
			errno = unix.ENAMETOOLONG
		}
		wantStep(t, err, errno, true)
	}
	if out := s.output(t, b, nil, "echo", "after"); out != "after\n" { // the backend is none the worse
		t.Errorf("%q", out)
	}
}

func testNotExecutable(t *testing.T, s *suite) {
	b := s.open(t)
	for _, name := range []string{"/etc/passwd", "/usr"} {
		_, err := s.try(t, bounded(t), b, nil, name)
		wantStep(t, err, unix.EACCES, true)
	}
	_, err := s.try(t, bounded(t), b, func(r *spawn.Request) { r.Env = []string{"PATH=/etc:/no/such"} }, "passwd")
	wantStep(t, err, unix.EACCES, true) // as execvp(3): the refusal is remembered
}

func testBadDir(t *testing.T, s *suite) {
	b := s.open(t)
	for dir, errno := range map[string]unix.Errno{"/no/such/dir": unix.ENOENT, "/etc/passwd": unix.ENOTDIR} {
		_, err := s.try(t, bounded(t), b, func(r *spawn.Request) { r.Dir = dir }, "true")
		wantStep(t, err, errno, false)
		if err != nil && !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not name %s: %v", dir, err)
		}
	}
}

// The working directory is never one that the init has open: it may lie outside
// of the root, and then ".." leads to all of the host.
func testDirByDescriptor(t *testing.T, s *suite) {
	b := s.open(t)
	for fd := range 40 {
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		_, err := s.try(t, bounded(t), b, func(r *spawn.Request) { r.Dir = dir }, "true")
		if step, ok := errors.AsType[*spawn.StepError](err); !ok || step.Step != plan.Chdir {
			t.Errorf("in %s: %v, want a refusal to go there", dir, err)
		}
	}
}

func testBadArgv(t *testing.T, s *suite) {
	b := s.open(t)
	for name, change := range map[string]func(*spawn.Request){
		"no argv":             func(r *spawn.Request) { r.Argv = nil },
		"empty program":       func(r *spawn.Request) { r.Argv = []string{""} },
		"NUL in argument":     func(r *spawn.Request) { r.Argv = []string{"echo", "a\x00b"} },
		"NUL in program":      func(r *spawn.Request) { r.Argv = []string{"ec\x00ho"} },
		"NUL in variable":     func(r *spawn.Request) { r.Env = []string{"A=\x00"} },
		"id that is too long": func(r *spawn.Request) { r.ID = strings.Repeat("i", 65) },
	} {
		if _, err := s.try(t, bounded(t), b, change, "true"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// However early or late the boot dies, that is known by the death, not by a
// deadline, and the step is named.
func testBootDeath(t *testing.T, s *suite) {
	b := s.open(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	for _, c := range []struct {
		name   string
		step   plan.Kind // of the backends that have a plan
		errno  unix.Errno
		change func(*spawn.Request)
	}{
		{"the cgroup is a directory like any other", 0, unix.EBADF, func(r *spawn.Request) { r.Cgroup = dir }},
		{"the tasks file is read-only", plan.JoinCgroup, unix.EBADF, func(r *spawn.Request) { r.Tasks = []*os.File{null} }},
		{"no CPU", plan.Affinity, unix.EINVAL, func(r *spawn.Request) { r.Affinity = make([]byte, 8) }},
		{"soft above hard", plan.Rlimit, unix.EINVAL, func(r *spawn.Request) {
			r.Rlimits = []spawn.Rlimit{{Resource: spawn.RlimitCore, Soft: 2, Hard: 1}}
		}},
		{"unknown resource", plan.Rlimit, unix.EINVAL, func(r *spawn.Request) { r.Rlimits = []spawn.Rlimit{{Resource: 99}} }},
		{"a filter that jumps out of itself", plan.Seccomp, unix.EINVAL, func(r *spawn.Request) { r.Filter = []byte{5, 0, 0, 0, 99, 0, 0, 0} }},
		{"an empty filter", plan.Seccomp, unix.EINVAL, func(r *spawn.Request) { r.Filter = []byte{} }},
	} {
		_, err := s.try(t, bounded(t), b, c.change, "true")
		if !errors.Is(err, c.errno) {
			t.Errorf("%s: %v, want %v", c.name, err, c.errno)
			continue
		}
		if step, ok := errors.AsType[*spawn.StepError](err); ok && (step.Step != c.step || step.Object == "" || step.Program()) {
			t.Errorf("%s: %#v, want step %v", c.name, step, c.step)
		}
	}
	if out := s.output(t, b, nil, "echo", "after"); out != "after\n" {
		t.Errorf("%q", out)
	}
}

func testContextOver(t *testing.T, s *suite) {
	b := s.open(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("why")
	cancel(why)
	if _, err := s.try(t, ctx, b, nil, "echo", "ran"); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
		t.Errorf("a start whose context is over: %v", err)
	}
	// The start's context says nothing about the time after it.
	ctx, cancel = context.WithCancelCause(context.Background())
	p, err := s.try(t, ctx, b, nil, "cat")
	if err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if _, err := p.stdin.WriteString("alive"); err != nil {
		t.Fatal(err)
	}
	p.stdin.Close()
	if out := collect(p.stdout).all(t); out != "alive" {
		t.Errorf("after the context of its start was over, the program wrote %q", out)
	}
	p.wait()
}

func testDeadline(t *testing.T, s *suite) {
	b := s.open(t)
	in, out := 0, 0
	step := s.fraction(t, b)
	for i := range Rounds(40, 1000) { // from a limit that has passed already to one that few starts need
		limit := time.Duration(i%40) * step
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		p, err := s.try(t, ctx, b, nil, "sleep", "1000")
		cancel()
		switch {
		case err == nil:
			in++
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		case errors.Is(err, context.DeadlineExceeded):
			out++
		default:
			t.Errorf("a deadline of %v: %v", limit, err)
		}
	}
	t.Logf("%d starts were in time, %d were not", in, out)
	if out == 0 {
		t.Error("no deadline was ever passed, so this tested nothing")
	}
}

// fraction is a thirtieth of what a start takes on this machine.
func (s *suite) fraction(t *testing.T, b spawn.Backend) time.Duration {
	t.Helper()
	s.output(t, b, nil, "true") // makes what the first one makes
	began := time.Now()
	p, err := s.try(t, bounded(t), b, nil, "sleep", "1000")
	took := time.Since(began)
	if err == nil {
		err = p.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return took / 30
}

func testCancel(t *testing.T, s *suite) {
	b := s.open(t)
	step := s.fraction(t, b)
	why := errors.New("not wanted any more")
	stopped := 0
	for i := range Rounds(40, 1000) {
		ctx, cancel := context.WithCancelCause(context.Background())
		timer := time.AfterFunc(time.Duration(i%40)*step, func() { cancel(why) })
		if i == 0 {
			cancel(why)
		}
		p, err := s.try(t, ctx, b, nil, "sleep", "1000")
		timer.Stop()
		cancel(nil)
		if err == nil {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if stopped++; !errors.Is(err, why) {
			t.Errorf("cancelled: %v does not wrap the cause", err)
		}
	}
	if stopped == 0 {
		t.Error("no start was ever cancelled, so this tested nothing")
	}
}

// Where this process cannot take the actor's descriptors, the start fails, and
// that is all: it does not wait for ever, and nothing foreign is closed.
func testDescriptorsExhausted(t *testing.T, s *suite) {
	b := s.open(t)
	s.output(t, b, nil, "true")
	r := s.request(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	r.Argv, r.Stdio = []string{"sleep", "1000"}, [3]*os.File{null, null, null}
	var stdin unix.Stat_t
	if err := unix.Fstat(0, &stdin); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	highest := 0
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		var n int
		if _, err := fmt.Sscan(fd.Name(), &n); err == nil {
			highest = max(highest, n)
		}
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
	failed := 0
	for room := range 12 {
		// Below the limit every number is taken but for room of them.
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest + 1 + room), Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		var taken []int
		for {
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
			if err != nil || fd > highest {
				if err == nil {
					unix.Close(fd)
				}
				break
			}
			taken = append(taken, fd)
		}
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			p, err := b.Start(ctx, r)
			if err == nil {
				err = p.Close()
			} else {
				failed++
			}
			done <- err
		}()
		select {
		case err = <-done:
		case <-time.After(deadline / 2):
			err = errors.New("it hangs")
		}
		for _, fd := range taken {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
		if err != nil && strings.Contains(err.Error(), "hangs") {
			t.Fatalf("with room for %d descriptors: %v", room, err)
		}
		var now unix.Stat_t
		if err := unix.Fstat(0, &now); err != nil || now.Ino != stdin.Ino {
			t.Fatalf("with room for %d descriptors: our stdin was closed: %v", room, err)
		}
	}
	if failed == 0 {
		t.Error("no start ever failed, so this tested nothing")
	}
	if out := s.output(t, b, nil, "echo", "after"); out != "after\n" {
		t.Errorf("%q", out)
	}
}
