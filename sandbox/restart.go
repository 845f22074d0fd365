package sandbox

import (
	"errors"
	"fmt"
	"time"
)

// next decides what follows the end of a life: another life, or none, and why
// the actor has failed then. why is nil where that end was no failure.
func (a *Actor) next(l *life, why error) (*life, error) {
	if b := a.takeBounce(l); b != nil {
		return a.resume(l, b)
	}
	n := a.n
	_, own := n.strategy.(leaveBe)
	limits := n.strategy.limits()
	switch {
	case own, a.class == once:
		return nil, why
	case a.ctx.Err() != nil && limits.Most > 0 && !errors.Is(why, ErrTooSlow):
		return nil, nil // as in the pause before a restart
	case a.ctx.Err() != nil:
		if why != nil && limits.Most == 0 && n.ctx.Err() != nil && !errors.Is(why, ErrTooSlow) {
			n.note(why) // it failed by itself, while another one did; one that is started again need not be, any more
		}
		return nil, why
	case limits.Most == 0:
		if why != nil {
			n.fail(a, why)
		}
		return nil, why
	case why == nil && a.class == task:
		return nil, nil
	case why == nil:
		why = fmt.Errorf("%v ended, and is to live until it is cancelled", l.ref)
	}
	return a.restart(l, limits, why)
}

// restart starts the actor again, and with it those that depend on it.
func (a *Actor) restart(l *life, limits Restarts, why error) (*life, error) {
	n := a.n
	var rest []*bounce
	if n.strategy.rest() {
		select {
		case n.restarting <- struct{}{}:
			defer func() { <-n.restarting }()
		case <-a.ctx.Done():
			return nil, nil
		case <-l.bounced: // the restart of one before it takes this one along meanwhile
			return a.resume(l, a.takeBounce(l))
		}
	}
	if time.Since(l.since) > limits.Within {
		a.inRow = 0
	}
	for first := true; ; first = false {
		if !n.mayRestart(limits) {
			err := fmt.Errorf("%w: %d within %v: %w", ErrRestarts, limits.Most, limits.Within, why)
			n.fail(a, err)
			release(rest, false)
			return nil, err
		}
		if first && n.strategy.rest() {
			rest = n.bounceRest(a)
		}
		wait := limits.Backoff << min(a.inRow, 6)
		a.inRow++
		if !a.pause(wait) {
			break
		}
		again, failed := a.begin(n.ctx)
		if again != nil {
			n.tell(Event{Kind: Restarted, Actor: again.ref, Epoch: again.epoch, Err: why})
			release(rest, true)
			return again, nil
		}
		if a.ctx.Err() != nil {
			break
		}
		why = failed
	}
	release(rest, n.ctx.Err() == nil) // where only this one was cancelled, they live on
	return nil, nil
}

// mayRestart counts a restart, unless there were too many.
func (n *Nursery) mayRestart(limits Restarts) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
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

// pause waits, unless the actor is cancelled meanwhile.
func (a *Actor) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return a.ctx.Err() == nil
	case <-a.ctx.Done():
		return false
	}
}

// bounce is the end and the new beginning of an actor that another one's restart takes along.
type bounce struct {
	turn chan struct{} // closed when it may go on
	live bool          // it may begin again; set before turn is closed
	done chan struct{} // closed when it has begun, or will not
}

// bounceRest ends those that the restart of a takes along, and waits until they are down.
func (n *Nursery) bounceRest(a *Actor) (rest []*bounce) {
	cause := &CancelCause{By: a.Ref(), Reason: "it is started again, and what was started after it as well"}
	deadline := time.Now().Add(n.grace)
	var down []<-chan struct{}
	for _, b := range n.Actors() {
		if b.order <= a.order {
			continue
		}
		if l, bo := b.markBounced(); bo != nil {
			rest, down = append(rest, bo), append(down, l.down)
			b.endLife(cause, deadline)
		}
	}
	for _, d := range down {
		<-d
	}
	return rest
}

// markBounced tells the actor that another one's restart ends its life; nil
// where there is none that is watched.
func (a *Actor) markBounced() (*life, *bounce) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.life
	if a.over || l == nil || l.bounce != nil || a.class == once || a.ctx.Err() != nil {
		return nil, nil
	}
	select {
	case <-l.ready:
	default:
		return nil, nil // whoever starts it waits for it
	}
	l.bounce = &bounce{turn: make(chan struct{}), done: make(chan struct{})}
	close(l.bounced)
	return l, l.bounce
}

// takeBounce gives what markBounced has left, for which somebody must answer.
func (a *Actor) takeBounce(l *life) *bounce {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := l.bounce
	if b != nil {
		l.bounce, l.bounced = nil, make(chan struct{})
	}
	return b
}

// release lets those that were taken along begin again, one after the other, or end.
func release(rest []*bounce, live bool) {
	for _, b := range rest {
		b.live = live
		close(b.turn)
		<-b.done
	}
}

// resume is what a bounced actor does next.
func (a *Actor) resume(l *life, b *bounce) (*life, error) {
	select {
	case <-b.turn:
	case <-a.ctx.Done():
		close(b.done)
		return nil, nil
	}
	if live := b.live && a.ctx.Err() == nil; !live {
		close(b.done)
		return nil, nil
	}
	again, why := a.begin(a.n.ctx)
	if again != nil {
		a.n.tell(Event{Kind: Restarted, Actor: again.ref, Epoch: again.epoch})
	}
	close(b.done)
	if again == nil && a.ctx.Err() == nil {
		return a.restart(l, a.n.strategy.limits(), why)
	}
	return again, nil
}
