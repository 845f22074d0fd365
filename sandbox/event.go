package sandbox

import (
	"time"

	"sandboxd/ipc/session"
)

// Event is something that happened to an actor. What its pointers lead to is shared, and not to be changed.
type Event struct {
	Kind   EventKind
	Time   time.Time
	Actor  Ref
	Parent Ref               // whose child it is; the supervisor's own: "0"
	Epoch  uint64            // which of its lives
	Rung   Rung              // Cancelling: how it is asked
	Call   *session.CallInfo // Called
	Report *Report           // Died
	Err    error             // Called, Died: what went wrong; Restarted: why; Cancelling: the *CancelCause
}

// EventKind is what happened.
type EventKind string

// The kinds of events, in the order of a life.
const (
	Spawned    EventKind = "spawned"    // its program runs
	Ready      EventKind = "ready"      // it serves; without Spec.Peer, it runs
	Called     EventKind = "called"     // a call of it, or by it, has ended; may come after Died
	Cancelling EventKind = "cancelling" // it was asked to end, by Rung
	Died       EventKind = "died"       // nothing of that life is left
	Restarted  EventKind = "restarted"  // this life, which is ready, follows one that failed
)

// Rung is a step of the ladder by which actors are ended.
type Rung string

// The rungs, from the lowest.
const (
	RungMessage Rung = "message" // CANCEL over its connection; without one, the ladder begins with SIGTERM
	RungTerm    Rung = "SIGTERM" // after half of the grace
	RungKill    Rung = "kill"    // after all of it
)

// CallInfo tells of a call. Took is 0 while it runs.
type CallInfo = session.CallInfo

func (n *Nursery) tell(e Event) {
	e.Time, e.Parent = time.Now(), n.by
	n.events.Send(e)
}
