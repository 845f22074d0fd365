package sandbox

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"sandboxd/ipc/session"
)

// endLife begins to end the life that the actor leads now. A second call does nothing.
func (a *Actor) endLife(cause *CancelCause, deadline time.Time) {
	a.mu.Lock()
	l := a.life
	a.mu.Unlock()
	if l == nil {
		return // it has none yet, and begin sees that it is not to have one
	}
	l.kids.end(cause, deadline)
	l.once.Do(func() { go a.ladder(l, cause, deadline) })
}

// ladder ends a life: cancel by message, half of the time; SIGTERM, the other
// half; then the end of the sandbox. Every actor of a tree has its own, all at
// once and with the same deadline, so that a tree takes one grace.
func (a *Actor) ladder(l *life, cause *CancelCause, deadline time.Time) {
	half := time.Until(deadline) / 2
	a.rung(l, RungMessage, cause)
	a.mu.Lock()
	s := l.s
	a.mu.Unlock()
	acked := false
	if s != nil {
		ctx, stop := context.WithTimeout(context.Background(), half)
		acked = s.CancelPeer(ctx, cause, half) == nil
		l.goneBy(ctx)
		stop()
	}
	if !l.gone() {
		a.rung(l, RungTerm, cause)
		ctx, stop := context.WithDeadline(context.Background(), deadline)
		_ = l.run.Signal(syscall.SIGTERM)
		l.goneBy(ctx)
		stop()
	}
	if !l.gone() {
		a.rung(l, RungKill, cause)
		a.mu.Lock()
		l.slow = &session.TooSlowError{Peer: l.ref, Acked: acked, Cause: cause}
		a.mu.Unlock()
		l.run.End(Cancelled, cause.Error())
	}
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

// lost decides about a life whose connection has ended: an orderly end leads to
// the end of the process, by itself or by the ladder; anything else is a peer
// that nobody can talk to any more, so it is ended.
func (a *Actor) lost(l *life) error {
	err := l.s.Err()
	orderly := errors.Is(err, session.ErrExited)
	ctx, stop := context.WithTimeout(context.Background(), a.n.grace/2)
	defer stop()
	l.goneBy(ctx) // a crash is seen here first, and tells its reason there
	if l.gone() {
		if errors.Is(err, session.ErrProtocol) {
			return err
		}
		return nil // the report says why
	}
	why := fmt.Sprintf("its program closed the connection and did not exit: %v", err)
	if orderly {
		why = "its program said that it ends, and did not"
	}
	a.mu.Lock()
	asked := a.cause != nil || a.bounce == l
	a.mu.Unlock()
	if !asked { // else the ladder is at it
		l.run.End(Lost, why)
	}
	<-l.run.Gone()
	return err
}

// finish ends the actor for good.
func (a *Actor) finish(report *Report, err error) {
	a.mu.Lock()
	a.over, a.report, a.err = true, report, err
	a.changedLocked()
	a.mu.Unlock()
	if err != nil && errors.Is(err, session.ErrTooSlow) {
		a.n.note(err)
	}
	close(a.done)
	a.n.drop(a)
}
