package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// run is the scope's life around body.
func (n *Nursery) run(body func(context.Context, *Nursery) error) (err error) {
	stop := context.AfterFunc(n.ctx, n.endAll) // the moment anything fails
	consequence := false
	nurseries.add(n)
	defer func() { // also where body panics
		n.Cancel("the scope has ended")
		stop()
		n.endAll()
		n.wait(context.Background(), func() bool { return len(n.actors) == 0 })
		nurseries.remove(n)
		n.events.Close()
		err = n.result(err, consequence)
	}()
	if err = body(n.ctx, n); err == nil {
		n.wait(n.ctx, func() bool { return n.awaited == 0 })
		return nil
	}
	consequence = n.ctx.Err() != nil && isConsequence(err, context.Cause(n.ctx))
	n.cancel(fmt.Errorf("the scope's body failed: %w", err))
	return err
}

// wait waits until done, which is called with n.mu held, says so, or ctx ends.
func (n *Nursery) wait(ctx context.Context, done func() bool) {
	for {
		n.mu.Lock()
		ok, dropped := done(), n.dropped
		n.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-dropped:
		case <-ctx.Done():
			return
		}
	}
}

// endAll begins to end every actor, all at once and with one deadline.
func (n *Nursery) endAll() {
	n.mu.Lock()
	n.closed = true
	if n.deadline.IsZero() {
		n.deadline = time.Now().Add(n.grace)
	}
	deadline := n.deadline
	actors := slices.Clone(n.actors)
	n.mu.Unlock()
	cause := context.Cause(n.ctx)
	who, ok := errors.AsType[*CancelCause](cause)
	if !ok {
		who = &CancelCause{By: n.by, Reason: cause.Error()}
	}
	for _, a := range actors {
		a.stop(who, deadline)
	}
}

// end cancels a nursery without a body, and does not wait.
func (n *Nursery) end(cause *CancelCause, deadline time.Time) {
	n.mu.Lock()
	if n.deadline.IsZero() || deadline.Before(n.deadline) {
		n.deadline = deadline
	}
	n.mu.Unlock()
	n.cancel(cause)
	n.endAll()
}

// class is how a nursery takes an actor's end.
type class uint8

const (
	daemon class = iota // lives until it is cancelled
	task                // the scope waits for its end
	once                // its end is told to whoever made it, and to nobody else
)

func (n *Nursery) start(ctx context.Context, s Spec, c class) (*Actor, error) {
	for _, m := range []*Mux{n.mux, s.Serve} {
		if i := slices.IndexFunc(m.Verbs(), func(v string) bool { return strings.HasPrefix(v, "sandboxd.") }); i >= 0 {
			return nil, fmt.Errorf("%w: verb %q: names that begin with sandboxd. are the supervisor's own", ErrSpec, m.Verbs()[i])
		}
	}
	a := &Actor{n: n, spec: s, class: c, name: s.name(), changed: make(chan struct{}), done: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(n.ctx)
	if err := n.admit(a); err != nil {
		a.cancel(nil)
		return nil, err
	}
	l, err := a.begin(ctx)
	if err != nil {
		a.finish(nil, err)
		return nil, err
	}
	go a.live(l)
	return a, nil
}

// admit makes the actor visible to cancel in the same step in which it starts to exist.
func (n *Nursery) admit(a *Actor) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrCancelling, context.Cause(n.ctx))
	}
	n.started++
	a.order = n.started
	n.actors = append(n.actors, a)
	if a.class == task {
		n.awaited++
	}
	return nil
}

// drop forgets an actor of which nothing is left, and tells it to everybody.
func (n *Nursery) drop(a *Actor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.actors = slices.DeleteFunc(n.actors, func(b *Actor) bool { return a == b })
	if a.class == task {
		n.awaited--
	}
	close(a.done)
	close(n.dropped)
	n.dropped = make(chan struct{})
}
