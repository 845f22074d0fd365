package sandbox

import (
	"errors"
	"fmt"
	"time"
)

// Strategy says what becomes of a nursery's actors when one of them fails: one
// of OneCancelsAll, OneForOne and RestForOne.
type Strategy interface {
	// limits are the intensity of restarts; 0 restarts: none.
	limits() Restarts
	// takes tells whether the restart of failed takes other along.
	takes(failed, other *Actor) bool
}

// OneCancelsAll cancels everything when one actor fails. It is the default.
type OneCancelsAll struct{}

// OneForOne starts the actor that failed again, and leaves the others alone.
type OneForOne struct{ Restarts }

// RestForOne starts the actor that failed again, and with it those that were
// started after it, in their order: they may depend on it.
type RestForOne struct{ Restarts }

// leaveBe does nothing: for children whose parent decides.
type leaveBe struct{}

// Restarts bounds restarts. When there were Most within Within, the next
// failure is the nursery's: everything is cancelled.
type Restarts struct {
	Most    int           // 0: 3
	Within  time.Duration // 0: a minute
	Backoff time.Duration // before the first restart; it doubles with each failure in a row, up to 64 times; 0: 100 ms
}

func (OneCancelsAll) limits() Restarts { return Restarts{} }
func (leaveBe) limits() Restarts       { return Restarts{} }
func (s OneForOne) limits() Restarts   { return s.withDefaults() }
func (s RestForOne) limits() Restarts  { return s.withDefaults() }

func (OneCancelsAll) takes(_, _ *Actor) bool       { return false }
func (leaveBe) takes(_, _ *Actor) bool             { return false }
func (OneForOne) takes(_, _ *Actor) bool           { return false }
func (RestForOne) takes(failed, other *Actor) bool { return other.order > failed.order }

func (r Restarts) withDefaults() Restarts {
	if r.Most <= 0 {
		r.Most = 3
	}
	if r.Within <= 0 {
		r.Within = time.Minute
	}
	if r.Backoff <= 0 {
		r.Backoff = 100 * time.Millisecond
	}
	return r
}

// ErrRestarts is the failure of a nursery whose actors failed too often.
var ErrRestarts = errors.New("too many restarts")

// next decides what follows the end of an actor's life: another life, or nil,
// and the actor has ended for good. why is nil where that end was no failure.
func (n *Nursery) next(a *Actor, l *life, why error) *life {
	if a.bounced(l) {
		return <-a.resume
	}
	if a.cancelled() != nil || n.ctx.Err() != nil {
		return nil
	}
	limits := n.strategy.limits()
	if limits.Most == 0 {
		if _, own := n.strategy.(leaveBe); why != nil && !own {
			n.fail(a, why)
		}
		return nil
	}
	if why == nil && !a.daemon {
		return nil
	}
	if why == nil {
		why = fmt.Errorf("%v ended, and is to live until it is cancelled", a.Ref())
	}
	n.restarting.Lock()
	defer n.restarting.Unlock()
	if a.bounced(l) { // the restart of an actor before it took this one along meanwhile
		return <-a.resume
	}
	var rest []*Actor
	for fails := 0; ; fails++ {
		if !n.mayRestart(limits) {
			n.fail(a, fmt.Errorf("%w: %d within %v: %w", ErrRestarts, limits.Most, limits.Within, why))
			break
		}
		if fails == 0 {
			rest = n.bounce(a)
		}
		if !a.pause(limits.Backoff << min(fails+a.failedInRow(l, limits), 6)) {
			break
		}
		again, err := a.begin(n.ctx, l.epoch+1)
		if err != nil {
			why = err
			continue
		}
		n.tell(Event{Kind: Restarted, Actor: a.Ref(), Epoch: again.epoch, Err: why})
		for _, b := range rest {
			b.resume <- b.again(n.ctx)
		}
		return again
	}
	for _, b := range rest { // they were to end with a, and a is not to live again
		b.resume <- nil
	}
	return nil
}

// mayRestart counts a restart, unless there were too many. Precondition: n.restarting is held.
func (n *Nursery) mayRestart(limits Restarts) bool {
	now := time.Now()
	for len(n.restarts) > 0 && now.Sub(n.restarts[0]) > limits.Within {
		n.restarts = n.restarts[1:]
	}
	if len(n.restarts) >= limits.Most {
		return false
	}
	n.restarts = append(n.restarts, now)
	return true
}

// bounce ends those that the restart of a takes along, and waits until they are down.
func (n *Nursery) bounce(a *Actor) []*Actor {
	var rest []*Actor
	for _, b := range n.Actors() {
		if b != a && n.strategy.takes(a, b) && b.markBounced() {
			rest = append(rest, b)
		}
	}
	cause := &CancelCause{By: a.Ref(), Reason: "it is started again, and what was started after it as well"}
	deadline := time.Now().Add(n.grace)
	for _, b := range rest {
		b.endLife(cause, deadline)
	}
	for _, b := range rest {
		b.mu.Lock()
		l := b.bounce
		b.mu.Unlock()
		<-l.down
	}
	return rest
}

// pause waits, unless the actor is cancelled meanwhile.
func (a *Actor) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.n.ctx.Done():
	case <-a.ending:
	}
	return a.cancelled() == nil && a.n.ctx.Err() == nil
}
