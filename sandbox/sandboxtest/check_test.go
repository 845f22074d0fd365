package sandboxtest_test

import (
	"context"
	"sync"
	"testing"

	"sandboxd/sandbox"
)

// host remembers what it has started, and has hooks for faults.
type host struct {
	sandbox.Starter
	before func() error  // before a start; an error fails it
	after  func()        // after a start, before anybody knows of it
	hold   chan struct{} // if set, nobody is known to be gone before it is closed

	mu      sync.Mutex
	started []sandbox.Running
}

func (h *host) StartActor(ctx context.Context, s sandbox.Spec, parent sandbox.Running) (sandbox.Running, error) {
	if h.before != nil {
		if err := h.before(); err != nil {
			return nil, err
		}
	}
	r, err := h.Starter.StartActor(ctx, s, parent)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.started = append(h.started, r)
	h.mu.Unlock()
	if h.after != nil {
		h.after()
	}
	if h.hold != nil {
		k := &kept{r, make(chan struct{})}
		go func() {
			<-r.Gone()
			<-h.hold
			close(k.gone)
		}()
		return k, nil
	}
	return r, nil
}

// kept is one whose end is kept secret for a while.
type kept struct {
	sandbox.Running
	gone chan struct{}
}

func (k *kept) Gone() <-chan struct{} { return k.gone }

// allDead waits until all that was started is gone.
func (h *host) allDead() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.started {
		<-r.Gone()
	}
}

// checkGone proves that nothing of what was started is left.
func (h *host) checkGone(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.started {
		select {
		case <-r.Gone():
		default:
			t.Errorf("%s lives after its scope", r.ID())
		}
	}
	h.started = nil
}

// checkEvents proves that the events of every life are in order: spawned, ready
// or not, asked to end rung by rung or not, died, once each.
func checkEvents(t *testing.T, events []sandbox.Event) {
	t.Helper()
	type life struct {
		ready, dead bool
		rung        int
	}
	rungs := map[sandbox.Rung]int{sandbox.RungMessage: 1, sandbox.RungTerm: 2, sandbox.RungKill: 3}
	lives := map[string]*life{}
	for _, e := range events {
		l := lives[e.Actor.ID]
		bad := ""
		switch {
		case e.Kind == sandbox.Spawned:
			if l != nil || e.Epoch == 0 || e.Parent == (sandbox.Ref{}) {
				bad = "spawned twice, or without epoch or parent"
			}
			lives[e.Actor.ID] = &life{}
		case l == nil:
			bad = "was not spawned"
		case e.Kind == sandbox.Called:
			if e.Call == nil {
				bad = "no call"
			}
		case l.dead:
			bad = "is dead"
		case e.Kind == sandbox.Ready:
			if l.ready {
				bad = "ready twice"
			}
			l.ready = true
		case e.Kind == sandbox.Restarted:
			if !l.ready || e.Epoch < 2 {
				bad = "restarted and not ready, or of its first life"
			}
		case e.Kind == sandbox.Cancelling:
			if rungs[e.Rung] <= l.rung {
				bad = "down the ladder"
			}
			l.rung = rungs[e.Rung]
		case e.Kind == sandbox.Died:
			if e.Report == nil {
				bad = "no report"
			}
			l.dead = true
		}
		if bad != "" {
			t.Errorf("event %s of %v, life %d: %s", e.Kind, e.Actor, e.Epoch, bad)
		}
	}
	for id, l := range lives {
		if !l.dead {
			t.Errorf("%s never died", id)
		}
	}
}
