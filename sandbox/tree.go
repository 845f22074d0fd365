package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"sandboxd/ipc/session"
)

// Mux is what a side serves; see Handle.
type Mux = session.Mux

// Ref names an actor: ID is unique on this machine while it lives, Name is for people.
type Ref = session.Ref

// CancelCause is why something was cancelled: who, and what for. As a context's
// cause it travels along with the cancel.
type CancelCause = session.Cancelled

// Starter starts the processes of actors. A Host is the one that confines them;
// package sandboxtest has one in memory.
type Starter interface {
	// StartActor starts s, in the sandbox of parent where that is not nil: its
	// limits hold for both together, and it ends when parent does.
	StartActor(ctx context.Context, s Spec, parent Running) (Running, error)
}

// Running is one life of an actor: a *Process.
type Running interface {
	ID() string
	// Accept waits for a connection of its program; with Spec.Peer only.
	Accept(ctx context.Context) (io.ReadWriteCloser, error)
	Signal(s syscall.Signal) error
	// End kills it, for the first reason that anyone has.
	End(why Reason, detail string)
	// Gone is closed when nothing of it is left.
	Gone() <-chan struct{}
	Wait(ctx context.Context) (*Report, error)
	// Holds are the limits that hold, by the names of docs/protocol.md.
	Holds() map[string]uint64
}

// Actor is a supervised program: it is started, watched, called, cancelled and,
// where the nursery's Strategy says so, started again. Its methods may be called
// concurrently, also after its end.
type Actor struct {
	n      *Nursery
	spec   Spec
	name   string
	order  int
	daemon bool
	ending chan struct{} // closed when somebody cancels it
	done   chan struct{} // closed when it has ended for good and nothing of it is left
	resume chan *life    // its next life, or nil, after it was bounced

	mu      sync.Mutex
	life    *life         // the newest
	changed chan struct{} // closed when life changes
	cause   *CancelCause  // who cancelled it
	bounce  *life         // the life that a restart of another one ended
	inRow   int           // failures in a row
	report  *Report       // of the last life
	err     error         // why it ended, if not well
	over    bool
}

// life is one incarnation.
type life struct {
	epoch uint64
	run   Running
	ref   Ref
	since time.Time
	kids  *Nursery      // its program's children
	once  sync.Once     // of the ladder
	down  chan struct{} // closed when nothing of it is left
	ready chan struct{} // closed when its program serves, or runs where it serves nothing

	// Guarded by Actor.mu.
	s    *session.Session // nil until its program has said hello
	slow error            // it had to be killed
}

// ActorError is why an actor failed, or could not be called.
type ActorError struct {
	Actor  Ref
	Report *Report // how it ended; nil: it never ran, or lives
	Err    error   // nil where the report says it all
}

func (e *ActorError) Error() string {
	switch {
	case e.Report == nil:
		return fmt.Sprintf("%v: %v", e.Actor, e.Err)
	case e.Err == nil:
		return fmt.Sprintf("%v ended: %s", e.Actor, e.Report.Exit.words())
	}
	return fmt.Sprintf("%v: %v; it ended: %s", e.Actor, e.Err, e.Report.Exit.words())
}

// Unwrap is the error beside the report.
func (e *ActorError) Unwrap() error { return e.Err }

func (e Exit) words() string {
	if e.Detail != "" {
		return fmt.Sprintf("%s, code %d (%s)", e.Reason, e.Code, e.Detail)
	}
	return fmt.Sprintf("%s, code %d", e.Reason, e.Code)
}

// Ref names the actor; the ID is that of its newest life.
func (a *Actor) Ref() Ref {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life == nil {
		return Ref{Name: a.name}
	}
	return a.life.ref
}

// Name is the Spec's, which other actors may have too.
func (a *Actor) Name() string { return a.name }

// Done is closed when the actor has ended for good and nothing of it is left.
func (a *Actor) Done() <-chan struct{} { return a.done }

// Process is the newest life as a process; nil where it is none of a Host's.
func (a *Actor) Process() *Process {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life == nil {
		return nil
	}
	p, _ := a.life.run.(*Process)
	return p
}

// Wait waits until the actor has ended for good and returns the report of its
// last life. The error is why it failed, nil where it was cancelled or ended well.
func (a *Actor) Wait(ctx context.Context) (*Report, error) {
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.report, a.err
}

// Cancel asks the actor to end: by message, after half of the nursery's grace
// by SIGTERM, after all of it by force. It returns when nothing of it is left;
// the error is a *session.TooSlowError where force was needed.
func (a *Actor) Cancel(ctx context.Context, reason string) error {
	a.stop(&CancelCause{By: a.n.self(), Reason: reason}, time.Now().Add(a.n.grace))
	_, err := a.Wait(ctx)
	return err
}

// stop is Cancel without the wait, for the first cause that anyone has.
func (a *Actor) stop(cause *CancelCause, deadline time.Time) {
	a.mu.Lock()
	if a.cause == nil && !a.over {
		a.cause = cause
		close(a.ending)
	}
	a.mu.Unlock()
	a.endLife(cause, deadline)
}

// end cancels a nursery without a body.
func (n *Nursery) end(cause *CancelCause, deadline time.Time) {
	n.mu.Lock()
	if n.deadline.IsZero() || deadline.Before(n.deadline) {
		n.deadline = deadline
	}
	n.mu.Unlock()
	n.cancel(cause)
	n.endAll()
}

func (a *Actor) cancelled() *CancelCause {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cause
}

// markBounced tells the actor that the life it leads is ended by the restart of another one.
func (a *Actor) markBounced() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over || a.cause != nil || a.life == nil {
		return false
	}
	a.bounce = a.life
	return true
}

func (a *Actor) bounced(l *life) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bounce == l
}

// again is the next life of a bounced actor; nil: there is none, and that has been told.
func (a *Actor) again(ctx context.Context) *life {
	a.mu.Lock()
	epoch := a.bounce.epoch + 1
	a.bounce = nil
	cancelled := a.cause != nil
	a.mu.Unlock()
	if cancelled {
		return nil
	}
	l, err := a.begin(ctx, epoch)
	if err != nil {
		a.n.fail(a, err)
		return nil
	}
	a.n.tell(Event{Kind: Restarted, Actor: a.Ref(), Epoch: epoch})
	return l
}

// failedInRow counts lives that failed soon after they began.
func (a *Actor) failedInRow(l *life, limits Restarts) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(l.since) > limits.Within {
		a.inRow = 0
	} else {
		a.inRow++
	}
	return a.inRow - min(a.inRow, 1)
}

// begin starts a life. On an error nothing of it is left.
func (a *Actor) begin(ctx context.Context, epoch uint64) (*life, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(a.n.ctx, func() { stop(context.Cause(a.n.ctx)) })()
	var parent Running
	if a.n.owner != nil {
		parent = a.n.owner.current()
	}
	run, err := a.n.starter.StartActor(ctx, a.spec, parent)
	if err != nil {
		return nil, &ActorError{Actor: Ref{Name: a.name}, Err: err}
	}
	l := &life{epoch: epoch, run: run, ref: Ref{ID: run.ID(), Name: a.name}, since: time.Now(), down: make(chan struct{}), ready: make(chan struct{})}
	l.kids = a.n.below(a)
	a.mu.Lock()
	a.life = l
	cause := a.cause
	a.changedLocked()
	a.mu.Unlock()
	a.n.tell(Event{Kind: Spawned, Actor: a.Ref(), Epoch: epoch})
	if cause != nil || a.n.ctx.Err() != nil {
		l.kill(Cancelled, "cancelled while it was started")
	}
	if a.spec.Peer {
		err = a.meet(ctx, l)
	}
	if err != nil {
		l.kill(Cancelled, "it was not started in time: "+err.Error())
		<-run.Gone()
		report, _ := run.Wait(context.Background())
		return nil, &ActorError{Actor: l.ref, Report: report, Err: err}
	}
	close(l.ready)
	a.n.dir.add(a, l)
	a.n.tell(Event{Kind: Ready, Actor: a.Ref(), Epoch: epoch})
	return l, nil
}

// changedLocked wakes those who wait for the actor. Precondition: a.mu is held.
func (a *Actor) changedLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}

func (l *life) kill(why Reason, detail string) { l.run.End(why, detail) }

func (a *Actor) current() Running {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life == nil {
		return nil
	}
	return a.life.run
}

// live watches one life after the other, until there is no next one.
func (a *Actor) live(l *life) {
	for {
		report, why := a.watch(l)
		a.n.dir.remove(l)
		close(l.down)
		a.n.tell(Event{Kind: Died, Actor: l.ref, Epoch: l.epoch, Report: report, Err: why})
		again := a.n.next(a, l, why)
		if again == nil {
			if a.cancelled() != nil && !errors.Is(why, session.ErrTooSlow) {
				why = nil
			}
			a.finish(report, why)
			return
		}
		l = again
	}
}

// watch waits for the end of a life. why is nil where that was as it should be.
func (a *Actor) watch(l *life) (report *Report, why error) {
	if l.s != nil {
		select {
		case <-l.s.Done(): // first, mostly: a socket closes before its process is reaped
			why = a.lost(l)
		case <-l.run.Gone():
		}
	}
	report, _ = l.run.Wait(context.Background())
	if l.s != nil {
		l.s.Close()
	}
	l.kids.end(&CancelCause{By: l.ref, Reason: "its parent has ended"}, time.Now().Add(a.n.grace))
	l.kids.all.Wait()
	a.mu.Lock()
	slow := l.slow
	a.mu.Unlock()
	if slow != nil {
		return report, &ActorError{Actor: l.ref, Report: report, Err: slow}
	}
	exit := report.Exit
	if a.cancelled() != nil || a.bounced(l) {
		return report, nil
	}
	if why != nil || exit.Reason != Exited || exit.Code != 0 {
		return report, &ActorError{Actor: l.ref, Report: report, Err: why}
	}
	return report, nil
}
