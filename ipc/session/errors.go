package session

import (
	"context"
	"errors"
	"fmt"
)

// What ends a call or a session. Errors that cross the connection are
// *RemoteError, for which errors.Is finds these by their type's name.
var (
	ErrProtocol    = errors.New("the peer broke the protocol")        // sandboxd.Protocol
	ErrLost        = errors.New("the other side is gone")             // sandboxd.Lost
	ErrBusy        = errors.New("too many calls at once")             // sandboxd.Busy
	ErrUnknownVerb = errors.New("nobody serves that verb")            // sandboxd.UnknownVerb
	ErrWrongMode   = errors.New("the verb takes the other mode")      // sandboxd.WrongMode
	ErrBadPayload  = errors.New("the payload is of another type")     // sandboxd.BadPayload
	ErrDenied      = errors.New("this actor may not do that")         // sandboxd.Denied
	ErrNotFound    = errors.New("there is no such actor")             // sandboxd.NotFound
	ErrPanic       = errors.New("the function panicked")              // sandboxd.Panic
	ErrTooLarge    = errors.New("the frame is too large")             // local: nothing was sent
	ErrTooSlow     = errors.New("it did not end in time when asked")  // local: the grace of a cancel has passed
	ErrEnded       = errors.New("the call has ended")                 // local: misuse of a stream
	ErrExited      = errors.New("the program said that it ends here") // local: after EXIT
)

// The types of errors that are this protocol's own.
const (
	typeCancelled = "sandboxd.Cancelled"
	typeDeadline  = "sandboxd.Deadline"
)

// sentinels are errors that cross by name, in the order in which an error that wraps several is called.
var sentinels = []struct {
	name string
	err  error
}{
	{"sandboxd.Protocol", ErrProtocol},
	{"sandboxd.Busy", ErrBusy},
	{"sandboxd.UnknownVerb", ErrUnknownVerb},
	{"sandboxd.WrongMode", ErrWrongMode},
	{"sandboxd.BadPayload", ErrBadPayload},
	{"sandboxd.Denied", ErrDenied},
	{"sandboxd.NotFound", ErrNotFound},
	{"sandboxd.Panic", ErrPanic},
	{"sandboxd.Lost", ErrLost},
	{typeDeadline, context.DeadlineExceeded},
	{typeCancelled, context.Canceled},
}

// Cancelled is why a context ended that somebody cancelled: who, and what for.
// As a cause (context.Cause) it travels with the cancel to the next actor.
type Cancelled struct {
	By     Ref
	Reason string
}

func (c *Cancelled) Error() string {
	if c.Reason == "" {
		return "cancelled by " + c.By.String()
	}
	return fmt.Sprintf("cancelled by %v: %s", c.By, c.Reason)
}

// Is makes it a context.Canceled.
func (c *Cancelled) Is(target error) bool { return target == context.Canceled }

// TooSlowError says that a call was cancelled and did not end within the grace.
// It is ErrTooSlow and whatever the cancel's cause is.
type TooSlowError struct {
	Peer  Ref
	Verb  string
	Acked bool  // it said that it is cancelling
	Cause error // why it was cancelled
}

func (e *TooSlowError) Error() string {
	what := "did not even acknowledge"
	if e.Acked {
		what = "acknowledged, and did not obey"
	}
	if e.Verb == "" {
		return fmt.Sprintf("%v %s the cancel in time, and was killed (%v)", e.Peer, what, e.Cause)
	}
	return fmt.Sprintf("call of %s by %v: %s the cancel in time (%v)", e.Verb, e.Peer, what, e.Cause)
}

// Unwrap gives both.
func (e *TooSlowError) Unwrap() []error { return []error{ErrTooSlow, e.Cause} }

// violation is an ErrProtocol with what was wrong.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProtocol, fmt.Errorf(format, args...))
}
