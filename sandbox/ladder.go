package sandbox

import (
	"context"
	"syscall"
	"time"

	"sandboxd/ipc/session"
)

// endLife begins to end the life that the actor leads now. A second call does nothing.
func (a *Actor) endLife(cause *CancelCause, deadline time.Time) {
	a.mu.Lock()
	l := a.life
	first := l != nil && l.ladder == nil && !l.buried // where there is none yet, begin sees that it is not to have one
	if first {
		l.ladder = make(chan struct{})
	}
	a.mu.Unlock()
	if l != nil {
		l.kids.end(cause, deadline)
	}
	if first {
		go a.climb(l, cause, deadline)
	}
}

// climb ends a life: cancel by message, half of the time; SIGTERM, the other
// half; then the end of the sandbox. Every actor of a tree has its own ladder,
// all at once and with the same deadline, so that a tree takes one grace.
func (a *Actor) climb(l *life, cause *CancelCause, deadline time.Time) {
	defer close(l.ladder)
	a.mu.Lock()
	s := l.s
	a.mu.Unlock()
	acked := false
	if s != nil && !l.gone() {
		half := time.Until(deadline) / 2
		ctx, stop := context.WithTimeout(context.Background(), half)
		defer stop()
		a.rung(l, RungMessage, cause)
		if acked = s.CancelPeer(ctx, cause, half) == nil; acked {
			a.yields(l, nil)
		}
		l.goneBy(ctx)
	}
	if !l.gone() {
		a.rung(l, RungTerm, cause)
		a.yields(l, nil)
		ctx, stop := context.WithDeadline(context.Background(), deadline)
		defer stop()
		_ = l.run.Signal(syscall.SIGTERM) // of one that has just ended, it fails
		l.goneBy(ctx)
	}
	if !l.gone() {
		a.rung(l, RungKill, cause)
		a.yields(l, &session.TooSlowError{Peer: l.ref, Acked: acked, Cause: cause})
		l.run.End(Cancelled, cause.Error())
	}
}

// yields notes that what the life does from now on is no failure of its own.
func (a *Actor) yields(l *life, slow error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l.yielded, l.slow = true, slow
}

func (a *Actor) rung(l *life, r Rung, cause *CancelCause) {
	a.n.tell(Event{Kind: Cancelling, Actor: l.ref, Epoch: l.epoch, Rung: r, Err: cause})
}

func (l *life) gone() bool {
	select {
	case <-l.run.Gone():
		return true
	default:
		return false
	}
}

// goneBy waits until nothing is left or ctx ends.
func (l *life) goneBy(ctx context.Context) {
	select {
	case <-l.run.Gone():
	case <-ctx.Done():
	}
}
