package sandboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sandboxd/sandbox"
)

// model is what a scope should be like while a random program runs in it.
type model struct {
	*scope
	t        *rapid.T
	n        *sandbox.Nursery
	ctx      context.Context
	restarts bool
	live     []*sandbox.Actor // that are ready
	tasks    map[*sandbox.Actor]bool
	first    string // what the first failure says; "": nothing has failed
}

// Random programs of starts, calls, failures and cancels do what the model says:
// the scope ends, nothing is left, the first real error comes first, the events
// are in order, and the directory is exactly what lives.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newScope(t, memory)
		m := &model{scope: c, t: rt, tasks: map[*sandbox.Actor]bool{}}
		options := []sandbox.Option{sandbox.Grace(longGrace)}
		if m.restarts = rapid.Bool().Draw(rt, "restarts"); m.restarts {
			options = append(options, sandbox.Supervise(sandbox.OneForOne{Restarts: sandbox.Restarts{Most: 1000, Backoff: time.Nanosecond}}))
		}
		end := rapid.SampledFrom([]string{"nil", "error", "cause", "cancel"}).Draw(rt, "end")
		steps := rapid.IntRange(0, 12).Draw(rt, "steps")
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			m.n, m.ctx = n, ctx
			for range steps {
				m.step()
				m.look()
			}
			m.endTasks(end)
			switch {
			case end == "error":
				if m.first == "" {
					m.first = errFull.Error()
				}
				return errFull
			case end == "cause" && ctx.Err() != nil:
				return context.Cause(ctx)
			case end == "cancel":
				n.Cancel("enough")
			}
			return nil
		}, options...)
		first := ""
		if err != nil {
			first, _, _ = strings.Cut(err.Error(), "\n")
		}
		if first != m.first && !(m.first != "" && strings.HasPrefix(first, m.first)) {
			rt.Fatalf("the scope says %q, want %q", err, m.first)
		}
		if end == "error" != (err != nil && errors.Is(err, errFull)) {
			rt.Fatalf("the body's error is not where it belongs: %v", err)
		}
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
}

func (m *model) step() {
	switch what := rapid.SampledFrom([]string{"start", "start", "go", "once", "call", "boot", "die", "well", "cancel"}).Draw(m.t, "step"); what {
	case "start", "go":
		m.begin(what)
	case "boot": // a start that fails is the caller's affair
		if _, err := m.n.Start(m.ctx, m.spec("exit", "3")); err == nil {
			m.t.Fatal("started what does not start")
		}
	case "once":
		_, err := sandbox.Once[int, int](m.ctx, m.n, m.spec("worker"), "die", 3)
		if err == nil {
			m.t.Fatal("it did not die")
		}
	default:
		if len(m.live) > 0 {
			m.hit(what, m.live[rapid.IntRange(0, len(m.live)-1).Draw(m.t, "actor")])
		}
	}
}

func (m *model) begin(what string) {
	start := m.n.Start
	if what == "go" {
		start = m.n.Go
	}
	s := m.spec("worker")
	s.Name = rapid.SampledFrom([]string{"a", "b"}).Draw(m.t, "name")
	a, err := start(m.ctx, s)
	if cancelled := m.first != ""; cancelled != errors.Is(err, sandbox.ErrCancelling) || !cancelled && err != nil {
		m.t.Fatalf("start: %v; cancelled: %v", err, cancelled)
	}
	if err == nil {
		m.live = append(m.live, a)
		m.tasks[a] = what == "go"
	}
}

// hit does something to an actor that lives.
func (m *model) hit(what string, a *sandbox.Actor) {
	switch what {
	case "call":
		if got, err := sandbox.Call[int, int](m.ctx, a, "double", 2); got != 4 || err != nil {
			m.t.Fatal(got, err)
		}
	case "cancel":
		if err := a.Cancel(m.ctx, "enough"); err != nil {
			m.t.Fatal(err)
		}
		m.gone(a)
	case "die", "well":
		code := 0
		if what == "die" {
			code = rapid.IntRange(1, 9).Draw(m.t, "code")
		}
		failed := fmt.Sprintf("%v ended: exited, code %d", a.Ref(), code)
		epoch := a.Epoch()
		if _, err := sandbox.Call[int, int](m.scope.ctx, a, "die", code); !errors.Is(err, sandbox.ErrLost) {
			m.t.Fatal(err)
		}
		switch {
		case m.restarts && (code != 0 || !m.tasks[a]):
			if err := a.Ping(m.ctx); err != nil || a.Epoch() != epoch+1 {
				m.t.Fatalf("epoch %d after %d: %v", a.Epoch(), epoch, err)
			}
		case code == 0:
			<-a.Done()
			m.gone(a)
		default: // everything ends
			m.first = failed
			<-m.ctx.Done()
			for _, b := range m.live {
				<-b.Done()
			}
			m.live = nil
		}
	}
}

func (m *model) gone(a *sandbox.Actor) {
	m.live = slices.DeleteFunc(m.live, func(b *sandbox.Actor) bool { return a == b })
}

// endTasks ends those for which the scope would wait, where nothing else does.
func (m *model) endTasks(end string) {
	for _, a := range slices.Clone(m.live) {
		if m.tasks[a] && end != "error" && end != "cancel" {
			m.hit("well", a)
		}
	}
}

// look compares the scope with the model.
func (m *model) look() {
	for _, name := range []string{"a", "b"} {
		var want []*sandbox.Actor
		for _, a := range m.live {
			if a.Name() == name {
				want = append(want, a)
			}
		}
		found := m.n.Find(name)
		if len(found) != len(want) {
			m.t.Fatalf("%d of name %s can be found, %d live", len(found), name, len(want))
		}
		for _, a := range want {
			if !slices.Contains(found, a) {
				m.t.Fatalf("%v lives and cannot be found", a.Ref())
			}
		}
	}
	if got := m.n.Actors(); len(got) != len(m.live) {
		m.t.Fatalf("%d actors, want %d", len(got), len(m.live))
	}
}
