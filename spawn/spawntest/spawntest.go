// Package spawntest is the conformance suite of package spawn: what it demands
// holds for every backend, or the backend declines it by name and with a reason.
//
//	func TestMain(m *testing.M) { spawntest.Main(m, nil) }
//
//	func TestConformance(t *testing.T) {
//		spawntest.Run(t, newBackend, request, spawntest.Lacks{spawntest.KillWhole: "has no pid namespace"})
//	}
//
// Every test of the suite has a backend of its own and is followed by a leak
// check. Programs are those of any Linux system: a POSIX shell, coreutils. A
// backend that cannot run those has its requests bring a root in which sh, cat,
// echo, env, printf, sleep and true are programs that it can run.
//
// Non-goals: what holds for one backend only (its own tests), limits and their
// attribution (package sandbox), and the finished program (integration).
package spawntest

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
)

// Ability is something that a backend may decline.
type Ability string

// The abilities that the suite tests, where the backend does not decline them.
const (
	// KillWhole: the death of the init, by whomever, is the death of everything in the actor.
	KillWhole Ability = "kill-whole"
	// Hidden: the program sees no process but the actor's own, and its init as process 1.
	Hidden Ability = "hidden"
	// Terminal: Request.Terminal.
	Terminal Ability = "terminal"
	// Inspect: Request.Inspect sees the program's process.
	Inspect Ability = "inspect"
	// Notify: Request.Notify hands out a seccomp listener, and the program makes the calls that it tells of.
	Notify Ability = "notify"
	// Executables: programs of this machine run, this test binary for one, also by descriptor.
	Executables Ability = "executables"
	// Children: the program can start others.
	Children Ability = "children"
	// Signals: the program can handle signals, and send them.
	Signals Ability = "signals"
	// Process: the program is a process that sees itself in /proc: ids, limits, descriptors.
	Process Ability = "process"
	// AnyEnv: the environment may have a name twice, and entries without one.
	AnyEnv Ability = "any-env"
	// SharedKernel: the program is a process of the host's kernel, which shows it to the host and answers it as it answers us.
	SharedKernel Ability = "shared-kernel"
)

var abilities = []Ability{KillWhole, Hidden, Terminal, Inspect, Notify, Executables, Children, Signals, Process, AnyEnv, SharedKernel}

// features are what Probe calls an ability, where it knows it.
var features = map[Ability]spawn.Feature{KillWhole: spawn.KillWhole, Hidden: spawn.PIDNS, Terminal: spawn.Terminal, Executables: spawn.Executables}

// Lacks says of each ability that a backend declines why it does.
type Lacks map[Ability]string

// deadline turns a hang into a failure; nothing here takes a hundredth of it.
var deadline = hosttest.Patience(60)

// suite is what one backend is tested with.
type suite struct {
	backend func(testing.TB) spawn.Backend
	request func(testing.TB) *spawn.Request
	lacks   Lacks
}

type test struct {
	name  string
	needs Ability // "" for what every backend must do
	run   func(*testing.T, *suite)
}

// Run tests the backend that newBackend makes. request gives a Request that is
// complete but for Argv and Stdio: an id that no other one has, Dir "/", an
// environment with PATH, host ids of its own where the caller is root.
func Run(t *testing.T, newBackend func(testing.TB) spawn.Backend, request func(testing.TB) *spawn.Request, lacks Lacks) {
	(&suite{newBackend, request, lacks}).run(t, func(string) bool { return true })
}

// Only is Run for the tests of those names, or without any for all, of a backend
// whose start takes seconds: hangs are found later, too.
func Only(t *testing.T, newBackend func(testing.TB) spawn.Backend, request func(testing.TB) *spawn.Request, lacks Lacks, names ...string) {
	usual := deadline
	deadline *= 5
	defer func() { deadline = usual }()
	ran := 0
	(&suite{newBackend, request, lacks}).run(t, func(name string) bool {
		if len(names) == 0 {
			return true
		}
		if slices.Contains(names, name) {
			ran++
			return true
		}
		return false
	})
	if ran != len(names) {
		t.Errorf("of %q the suite has %d", names, ran)
	}
}

func (s *suite) run(t *testing.T, wanted func(name string) bool) {
	Warm(t, s.backend, s.request)
	if !t.Run("Declared", s.declared) {
		t.Fatal("what the backend declines and what it says it holds differ")
	}
	for _, group := range []struct {
		tests []test
		needs Ability
	}{{startTests, ""}, {programTests, ""}, {failTests, ""}, {stopTests, ""}, {boundaryTests, ""}, {peerTests, Executables}, {exeTests, Executables}} {
		for _, c := range group.tests {
			if !wanted(c.name) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				s.need(t, group.needs, c.needs)
				Watch(t)
				c.run(t, s)
			})
		}
	}
}

// need passes a test over that takes what the backend declines.
func (s *suite) need(t testing.TB, all ...Ability) {
	t.Helper()
	for _, a := range all {
		if why, declined := s.lacks[a]; declined {
			t.Skipf("does not apply: the backend declines %s: %s", a, why)
		}
	}
}

// Warm makes what a process makes once and keeps, so that Watch does not
// take it for a leak: pollers, the init's image.
func Warm(t testing.TB, newBackend func(testing.TB) spawn.Backend, request func(testing.TB) *spawn.Request) {
	t.Helper()
	s := &suite{newBackend, request, nil}
	b := s.open(t)
	if out := s.output(t, b, nil, "echo", "warm"); out != "warm\n" {
		t.Fatalf("echo warm: %q", out)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// declared compares Lacks with Probe: what is declined is never this backend's,
// so that no test is passed over for want of a better host, and nothing that
// the host cannot hold is claimed.
func (s *suite) declared(t *testing.T) {
	Watch(t)
	b := s.open(t)
	if b.Name() == "" {
		t.Error("the backend has no name")
	}
	held := b.Probe(bounded(t))
	if len(held) == 0 {
		t.Error("Probe names no feature")
	}
	for _, a := range abilities {
		why, declined := s.lacks[a]
		if declined && why == "" {
			t.Errorf("%s is declined without a reason", a)
		}
		if gate, listed := held[features[a]]; listed && declined {
			t.Errorf("%s is declined, but Probe speaks of it: %v", a, gate)
		} else if listed && !declined && gate != nil {
			t.Errorf("%s is claimed, but Probe says: %v", a, gate)
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for f, gate := range b.Probe(over) {
		if gate == nil && f != spawn.Landlock { // which is looked up
			t.Errorf("%s is held, where no actor could be started", f)
		}
	}
	for a := range s.lacks {
		if !slices.Contains(abilities, a) {
			t.Errorf("%q is declined and is no ability", a)
		}
	}
	for f, err := range held {
		if gate, ok := errors.AsType[*spawn.Gate](err); err != nil && (!ok || gate.Observed == "" || gate.Feature != f) {
			t.Errorf("Probe of %s: %#v: want a *spawn.Gate of this feature that says what was observed", f, err)
		}
	}
}

// foreign tells that programs are on another kernel than the host's.
func (s *suite) foreign() bool {
	_, yes := s.lacks[SharedKernel]
	return yes
}

// open makes a backend that is closed at the end of the test.
func (s *suite) open(t testing.TB) spawn.Backend {
	t.Helper()
	b := s.backend(t)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close the backend: %v", err)
		}
	})
	return b
}

// bounded is a context that turns a hang into a failure.
func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, deadline) }

// program is an actor and the other ends of its streams.
type program struct {
	spawn.Process
	t             testing.TB
	stdin, stdout *os.File
	out, err      output
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// output is everything that comes out of a pipe until its last writer is gone.
type output chan string

func collect(r *os.File) output {
	text := make(output, 1)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	return text
}

// all waits for the end.
func (o output) all(t testing.TB) string {
	t.Helper()
	select {
	case text := <-o:
		return text
	case <-time.After(deadline):
		t.Error("somebody still holds the program's output")
		return ""
	}
}

// start starts argv with pipes. change, if not nil, has the last word on the Request.
func (s *suite) start(t testing.TB, b spawn.Backend, change func(*spawn.Request), argv ...string) *program {
	t.Helper()
	p := s.stream(t, b, change, argv...)
	p.out = collect(p.stdout)
	return p
}

// stream is start with an output that the test reads itself.
func (s *suite) stream(t testing.TB, b spawn.Backend, change func(*spawn.Request), argv ...string) *program {
	t.Helper()
	p, err := s.try(t, bounded(t), b, change, argv...)
	if err != nil {
		t.Fatalf("start %q: %v", argv, err)
	}
	return p
}

// try is start where the error is the point.
func (s *suite) try(t testing.TB, ctx context.Context, b spawn.Backend, change func(*spawn.Request), argv ...string) (*program, error) {
	t.Helper()
	r := s.request(t)
	stdinR, stdinW := pipe(t)
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	r.Argv, r.Stdio = argv, [3]*os.File{stdinR, outW, errW}
	if change != nil {
		change(r)
	}
	proc, err := b.Start(ctx, r)
	for _, f := range []*os.File{stdinR, outW, errW} { // still ours, so closing them works
		if err := f.Close(); err != nil {
			t.Errorf("a descriptor of the request was taken over: %v", err)
		}
	}
	p := &program{Process: proc, t: t, stdin: stdinW, stdout: outR, err: collect(errR)}
	if err != nil {
		if proc != nil {
			t.Errorf("start %q: a Process besides the error %v", argv, err)
		}
		if out, errOut := collect(outR).all(t), p.err.all(t); out+errOut != "" {
			t.Errorf("start %q failed with %v, but it wrote %q", argv, err, out+errOut)
		}
		return nil, err
	}
	t.Cleanup(func() {
		if err := proc.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p, nil
}

// wait returns how the program ended; its streams are then complete.
func (p *program) wait() spawn.Exit {
	p.t.Helper()
	exit, err := p.Wait(bounded(p.t))
	if err != nil {
		p.t.Fatalf("wait: %v", err)
	}
	return exit
}

// output runs argv to a proper end.
func (s *suite) output(t testing.TB, b spawn.Backend, change func(*spawn.Request), argv ...string) string {
	t.Helper()
	p := s.start(t, b, change, argv...)
	p.stdin.Close()
	exit := p.wait()
	out, errOut := p.out.all(t), p.err.all(t)
	if errOut != "" || !exit.Reported || exit.Status != 0 {
		t.Errorf("%q: %+v, stderr %q", argv, exit, errOut)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	return out
}
