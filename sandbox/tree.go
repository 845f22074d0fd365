package sandbox

import (
	"context"
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
	// ID names it; it is unique on this machine while it lives.
	ID() string
	// Accept waits for a connection of its program, which is the caller's; with
	// Spec.Peer only. It ends with ctx, and with os.ErrProcessDone when the program has ended.
	Accept(ctx context.Context) (io.ReadWriteCloser, error)
	// Signal sends s to the program; SIGKILL ends the whole actor.
	Signal(s syscall.Signal) error
	// End kills it, for the first reason that anyone has, and does not wait.
	End(why Reason, detail string)
	// Gone is closed when nothing of it is left.
	Gone() <-chan struct{}
	// Wait gives the report, after Gone.
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
	class  class
	ctx    context.Context // ends when somebody cancels it, with a *CancelCause, and with the nursery's
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended for good and nothing of it is left
	inRow  int           // failures in a row; its own goroutine's

	mu      sync.Mutex
	life    *life         // the newest
	epoch   uint64        // of that
	changed chan struct{} // closed when any of this changes, or the life gets ready
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
	down  chan struct{} // closed when nothing of it is left
	ready chan struct{} // closed when its program serves, or runs where it serves nothing

	// Guarded by Actor.mu.
	s       *session.Session // nil until its program has said hello
	claimed bool             // a connection is s, or about to be
	buried  bool             // its process is gone
	ladder  chan struct{}    // closed at the end of the ladder; nil: nobody has asked it to end
	yielded bool             // what it does now is an answer to that
	slow    error            // it had to be killed
	bounce  *bounce          // the restart of another actor ended it
	bounced chan struct{}    // closed when bounce is set
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

// Ref names the actor; the ID is that of its newest life, "" before the first.
func (a *Actor) Ref() Ref {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.life == nil {
		return Ref{Name: a.name}
	}
	return a.life.ref
}

// Name is the Spec's, or the base name of its program; other actors may have it too.
func (a *Actor) Name() string { return a.name }

// Epoch numbers the newest life: 1 is the first; 0: there is none yet.
func (a *Actor) Epoch() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.epoch
}

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
// last life, nil where none ever ran. The error is why it failed, nil where it
// was cancelled or ended well. When ctx ends first, that is its cause.
func (a *Actor) Wait(ctx context.Context) (*Report, error) {
	select {
	case <-a.done:
	case <-ctx.Done():
		select {
		case <-a.done:
		default:
			return nil, context.Cause(ctx)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.report, a.err
}

// Cancel asks the actor to end: by message, after half of the nursery's grace
// by SIGTERM, after all of it by force. It returns when nothing of it is left;
// the error is a *TooSlowError where force was needed, and why the actor failed
// where it did so before it was asked, and was not to be started again. ctx bounds the wait, not the cancel. To
// cancel an actor that has ended does nothing.
func (a *Actor) Cancel(ctx context.Context, reason string) error {
	a.stop(&CancelCause{By: a.n.by, Reason: reason}, time.Now().Add(a.n.grace))
	_, err := a.Wait(ctx)
	return err
}

// stop is Cancel without the wait, for the first cause that anyone has.
func (a *Actor) stop(cause *CancelCause, deadline time.Time) {
	a.cancel(cause)
	a.endLife(cause, deadline)
}
