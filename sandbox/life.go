package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sandboxd/ipc/session"
)

// begin starts a life. On an error nothing of it is left.
func (a *Actor) begin(ctx context.Context) (*life, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(a.ctx, func() { stop(context.Cause(a.ctx)) })()
	run, err := a.n.starter.StartActor(ctx, a.spec, a.n.parent)
	if err != nil {
		return nil, &ActorError{Actor: Ref{Name: a.name}, Err: a.whyNot(err)}
	}
	l := a.publish(run)
	if a.spec.Peer {
		err = a.meet(ctx, l)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		why := Lost
		if ctx.Err() != nil {
			why = Cancelled
		}
		run.End(why, "it was not ready in time: "+err.Error())
		report := a.bury(l)
		err = &ActorError{Actor: l.ref, Report: report, Err: a.whyNot(err)}
		a.down(l, report, err)
		return nil, err
	}
	close(l.ready)
	a.n.dir.add(a, l)
	a.mu.Lock()
	a.changedLocked()
	a.mu.Unlock()
	a.n.tell(Event{Kind: Ready, Actor: l.ref, Epoch: l.epoch})
	return l, nil
}

// publish makes a process the actor's life. A cancel that has come before it is
// seen by begin, and one that comes after it finds it.
func (a *Actor) publish(run Running) *life {
	l := &life{
		run: run, ref: Ref{ID: run.ID(), Name: a.name}, since: time.Now(),
		down: make(chan struct{}), ready: make(chan struct{}), bounced: make(chan struct{}),
	}
	l.kids = a.n.below(a, l)
	a.mu.Lock()
	a.epoch++
	l.epoch, a.life = a.epoch, l
	a.changedLocked()
	a.n.tell(Event{Kind: Spawned, Actor: l.ref, Epoch: l.epoch}) // before anybody can tell of its end
	a.mu.Unlock()
	return l
}

// whyNot says of a failed start that somebody cancelled it, where that is why.
func (a *Actor) whyNot(err error) error {
	if a.ctx.Err() == nil || errors.Is(err, ErrCancelling) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCancelling, context.Cause(a.ctx))
}

// changedLocked wakes those who wait for the actor. Precondition: a.mu is held.
func (a *Actor) changedLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// live watches one life after the other, until there is no next one.
func (a *Actor) live(l *life) {
	for {
		report, why := a.watch(l)
		a.down(l, report, why)
		if errors.Is(why, ErrTooSlow) {
			a.n.note(why)
		}
		next, err := a.next(l, why)
		if next == nil {
			a.finish(report, err)
			return
		}
		l = next
	}
}

// watch waits for the end of a life. why is nil where that was as it should be.
func (a *Actor) watch(l *life) (report *Report, why error) {
	a.mu.Lock()
	s := l.s
	a.mu.Unlock()
	if s != nil {
		select {
		case <-s.Done(): // first, mostly: a socket closes before its process is reaped
			a.n.dir.remove(l)
			why = a.lost(l, s)
		case <-l.run.Gone():
		}
	}
	report = a.bury(l)
	if s != nil && errors.Is(s.Err(), session.ErrProtocol) {
		why = s.Err() // also where the program ended before we could end it
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	exit := report.Exit
	switch {
	case l.slow != nil && exit.Reason == Cancelled: // else it ended by itself, in the last moment
		return report, &ActorError{Actor: l.ref, Report: report, Err: l.slow}
	case l.yielded, why == nil && exit.Reason == Exited && exit.Code == 0:
		return report, nil
	}
	return report, &ActorError{Actor: l.ref, Report: report, Err: why}
}

// lastWords is how long a connection whose program is gone may take to end. Only
// one that the program has given away can be open then.
const lastWords = time.Second

// bury waits until nothing of a life is left, its children included.
func (a *Actor) bury(l *life) *Report {
	<-l.run.Gone()
	a.n.dir.remove(l)
	report, err := l.run.Wait(context.Background())
	if report == nil {
		report = &Report{Exit: Exit{Code: 125, Reason: Lost, Detail: fmt.Sprint(err)}}
	}
	a.mu.Lock()
	l.buried = true
	s, ladder := l.s, l.ladder
	a.mu.Unlock()
	if s != nil {
		t := time.AfterFunc(lastWords, func() { s.Close() })
		<-s.Done() // by itself, when it has read what the program said last
		t.Stop()
	}
	l.kids.end(&CancelCause{By: l.ref, Reason: "its parent has ended"}, time.Now().Add(a.n.grace))
	l.kids.wait(context.Background(), func() bool { return len(l.kids.actors) == 0 })
	if ladder != nil {
		<-ladder
	}
	return report
}

// down tells everybody that nothing of a life is left.
func (a *Actor) down(l *life, report *Report, why error) {
	a.n.tell(Event{Kind: Died, Actor: l.ref, Epoch: l.epoch, Report: report, Err: why})
	close(l.down)
}

// lost decides about a life whose connection has ended: an orderly end leads to
// the end of the process, by itself or by the ladder; anything else is a peer
// that nobody can talk to any more, so it is ended. The error is nil where the
// report says more.
func (a *Actor) lost(l *life, s *session.Session) error {
	err := s.Err()
	if errors.Is(err, session.ErrProtocol) {
		l.run.End(Lost, err.Error())
		return err
	}
	t := time.NewTimer(a.n.grace / 2)
	defer t.Stop()
	select {
	case <-l.run.Gone(): // a crash is seen here first, and tells its reason there
		return nil
	case <-t.C:
	}
	a.mu.Lock()
	asked := l.ladder != nil
	a.mu.Unlock()
	if asked { // the ladder is at it
		return nil
	}
	why := fmt.Sprintf("its program closed the connection and did not exit: %v", err)
	if errors.Is(err, session.ErrExited) {
		why = "its program said that it ends, and did not"
	}
	l.run.End(Lost, why)
	return err
}

// finish ends the actor for good.
func (a *Actor) finish(report *Report, err error) {
	a.mu.Lock()
	a.over, a.report, a.err = true, report, err
	if a.life != nil && a.life.bounce != nil {
		close(a.life.bounce.done) // it came too late
	}
	a.changedLocked()
	a.mu.Unlock()
	a.cancel(nil) // gives up its place in the nursery's context
	a.n.drop(a)
}
