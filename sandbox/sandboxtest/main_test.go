package sandboxtest_test

import (
	"context"
	"flag"
	"hash/crc32"
	"os"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
	"sandboxd/spawn"
	"sandboxd/spawn/spawntest"
)

// setup is a way to run the programs of programs_test.go as actors. Every
// behaviour is tested on all of them.
type setup struct {
	name    string
	starter func(t *testing.T) sandbox.Starter
	spec    func(program string, args ...string) sandbox.Spec
}

var memory = setup{
	name:    "memory",
	starter: func(*testing.T) sandbox.Starter { return programs },
	spec: func(program string, args ...string) sandbox.Spec {
		return sandbox.Spec{Name: program, Argv: append([]string{program}, args...), Peer: true}
	},
}

// this is a way to start this test binary in a sandbox.
var this = sandbox.Func("this", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })

// real are processes of a backend, which play the role of the program that their name says.
func real(backend string) setup {
	return setup{
		name: backend,
		starter: func(t *testing.T) sandbox.Starter {
			o := sandbox.Options{}
			if backend == "container" {
				hosttest.NeedRoot(t)
				o.ContainerHelper = hosttest.Container(t)
			}
			h, err := sandbox.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			})
			b, err := h.Backend(backend)
			if err != nil {
				t.Fatal(err)
			}
			if why := b.Probe(t.Context())[spawn.PeerSocket]; why != nil {
				hosttest.Lack(t, "actors of backend %s: %v", backend, why)
			}
			return h
		},
		spec: func(program string, args ...string) sandbox.Spec {
			s := this.Spec()
			s.Name, s.Argv, s.Backend = program, append([]string{program}, args...), backend
			s.Env = []string{hosttest.RoleEnv + "=actor", "GORACE=atexit_sleep_ms=0"}
			s.Limits.PIDs, s.BestEffort = 1024, true
			s.BootTimeout = watchdog // many at once, with the race detector, take their time
			return s
		},
	}
}

var setups = []setup{memory, real("native"), real("process"), real("container")}

func TestMain(m *testing.M) {
	spawntest.Main(m, map[string]func(){
		"actor":      func() { os.Exit(programs[os.Args[0]].Main()) },
		"supervisor": supervisor,
	})
}

// watchdog turns a hang into a failure.
const watchdog = 2 * time.Minute

// Containers take ten times as long to start, and what is tested here lies above all backends.
var everywhere = flag.Bool("everywhere", false, "run every behaviour in containers too, not every fifth")

// each runs a behaviour on every way to run actors.
func each(t *testing.T, f func(*scope)) {
	for _, s := range setups {
		if s.name == "container" && !*everywhere && crc32.ChecksumIEEE([]byte(t.Name()))%5 != 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) { f(newScope(t, s)) })
	}
}

// scope runs nurseries, and checks of each that nothing of it survives and that its events are in order.
type scope struct {
	*testing.T
	setup
	ctx    context.Context
	host   *host
	mux    sandbox.Mux
	began  chan string // what verb "began" of the supervisor was called with
	events []sandbox.Event
}

func newScope(t *testing.T, s setup) *scope {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), watchdog)
	t.Cleanup(func() {
		if ctx.Err() == context.DeadlineExceeded {
			t.Error("something waited for the watchdog")
		}
		stop()
	})
	c := &scope{T: t, setup: s, ctx: ctx, began: make(chan string, 4096)}
	c.host = &host{Starter: s.starter(t)}
	sandbox.Handle(&c.mux, "began", func(_ context.Context, what string) (struct{}, error) {
		c.began <- what
		return struct{}{}, nil
	})
	return c
}

type body = func(ctx context.Context, n *sandbox.Nursery) error

// run is sandbox.Run with the watchdog's context.
func (c *scope) run(f body, options ...sandbox.Option) error {
	c.Helper()
	return c.runIn(c.ctx, f, options...)
}

func (c *scope) runIn(ctx context.Context, f body, options ...sandbox.Option) error {
	c.Helper()
	var events *sandbox.Subscription[sandbox.Event]
	options = append([]sandbox.Option{sandbox.On(c.host), sandbox.Serve(&c.mux)}, options...)
	var nursery *sandbox.Nursery
	err := sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
		events, nursery = n.Events(), n
		return f(ctx, n)
	}, options...)
	c.host.checkGone(c.T)
	if left := nursery.Actors(); len(left) > 0 {
		c.Errorf("actors after the scope's end: %v", left)
	}
	c.events = c.events[:0]
	for e, err := range events.All(c.ctx) {
		if err != nil {
			c.Log(err) // more than are kept
			return nil
		}
		c.events = append(c.events, e)
	}
	checkEvents(c.T, c.events)
	return err
}

// must is run of what must go well.
func (c *scope) must(f body, options ...sandbox.Option) {
	c.Helper()
	if err := c.run(f, options...); err != nil {
		c.Error(err)
	}
}

// until waits until some actor has told that it began what.
func (c *scope) until(what string) {
	c.Helper()
	select {
	case got := <-c.began:
		if got != what {
			c.Fatalf("%q began, want %q", got, what)
		}
	case <-c.ctx.Done():
		c.Fatalf("waiting for %q: %v", what, context.Cause(c.ctx))
	}
}

// start starts a worker that must start.
func (c *scope) start(ctx context.Context, n *sandbox.Nursery, s sandbox.Spec) *sandbox.Actor {
	c.Helper()
	a, err := n.Start(ctx, s)
	if err != nil {
		c.Fatal(err)
	}
	return a
}

// kinds counts the events of a kind.
func (c *scope) kinds(k sandbox.EventKind) (n int) {
	for _, e := range c.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

// rungs are the rungs by which an actor of that name was ended.
func (c *scope) rungs(name string) (rungs []sandbox.Rung) {
	for _, e := range c.events {
		if e.Kind == sandbox.Cancelling && e.Actor.Name == name {
			rungs = append(rungs, e.Rung)
		}
	}
	return rungs
}
