package sandbox

import (
	"errors"
	"time"
)

// Strategy says what becomes of a nursery's actors when one of them fails: one
// of OneCancelsAll, OneForOne and RestForOne.
type Strategy interface {
	// limits are the intensity of restarts; 0 restarts: none.
	limits() Restarts
	// rest tells that a restart takes along what was started after the actor.
	rest() bool
}

// OneCancelsAll cancels everything when one actor fails. It is the default.
type OneCancelsAll struct{}

// OneForOne starts the actor that failed again, and leaves the others alone. An
// actor of Nursery.Start that ended by itself has failed, however well it ended.
type OneForOne struct{ Restarts }

// RestForOne starts the actor that failed again, and with it those that were
// started after it, in their order: they may depend on it.
type RestForOne struct{ Restarts }

// leaveBe does nothing: for children whose parent decides.
type leaveBe struct{}

// Restarts bounds the restarts of a nursery, all its actors together. When there
// were Most within Within, the next failure is the nursery's, ErrRestarts:
// everything is cancelled. A restart that fails counts as well.
type Restarts struct {
	Most    int           // 0: 3
	Within  time.Duration // 0: a minute
	Backoff time.Duration // before an actor's first restart; it doubles, up to 64 times, with each that failed within Within; 0: 100 ms
}

func (OneCancelsAll) limits() Restarts { return Restarts{} }
func (leaveBe) limits() Restarts       { return Restarts{} }
func (s OneForOne) limits() Restarts   { return s.withDefaults() }
func (s RestForOne) limits() Restarts  { return s.withDefaults() }

func (OneCancelsAll) rest() bool { return false }
func (leaveBe) rest() bool       { return false }
func (OneForOne) rest() bool     { return false }
func (RestForOne) rest() bool    { return true }

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
