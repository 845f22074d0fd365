package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sandboxd/ipc/session"
)

// What calls and streams end with; errors.Is finds them.
var (
	ErrLost        = session.ErrLost        // the actor is gone
	ErrTooSlow     = session.ErrTooSlow     // it did not end in time when asked
	ErrUnknownVerb = session.ErrUnknownVerb // it does not serve that verb
	ErrBadPayload  = session.ErrBadPayload  // a value is of another type than the other side wants
	ErrBusy        = session.ErrBusy        // it has too many calls at once
	ErrWrongMode   = session.ErrWrongMode   // the verb takes the other one of Call and OpenStream
	ErrTooLarge    = session.ErrTooLarge    // a value is larger than a frame; nothing was sent
	ErrEnded       = session.ErrEnded       // the dialog has ended
	ErrPanic       = session.ErrPanic       // its function panicked
	ErrDenied      = session.ErrDenied      // the actor may not do that
	ErrNotFound    = session.ErrNotFound    // there is no such actor
	ErrProtocol    = session.ErrProtocol    // its program broke the protocol
)

// RemoteError is an error that happened in an actor: type, message, stack,
// source, who passed it on, who cancelled. It can be told apart by errors.Is and
// errors.As where its type is registered here.
type RemoteError = session.RemoteError

// TooSlowError says who did not end in time when asked. It is ErrTooSlow.
type TooSlowError = session.TooSlowError

// Lent is bytes of a message that are not copied, for large ones. Those of a
// request are overwritten once its answer has been encoded; see [session.Lent].
type Lent = session.Lent

// ServerStream is the server's end of a dialog; see HandleStream.
type ServerStream[In, Out any] = session.ServerStream[In, Out]

// Handle serves verb to actors, by a function of one request and one answer;
// see Serve and Spec.Serve. Caller says who calls.
func Handle[Req, Resp any](m *Mux, verb string, f func(context.Context, Req) (Resp, error)) {
	session.Handle(m, verb, f)
}

// HandleStream serves verb to actors by a dialog.
func HandleStream[Req, In, Out, Resp any](m *Mux, verb string, f func(context.Context, Req, ServerStream[In, Out]) (Resp, error)) {
	session.HandleStream(m, verb, f)
}

// RegisterError lets errors.Is find err where an actor returned it; its program registers its own by the same name.
func RegisterError(name string, err error) { session.RegisterError(name, err) }

// RegisterErrorType lets errors.As find errors of type T where an actor returned one, with their exported fields.
func RegisterErrorType[T error](name string) { session.RegisterErrorType[T](name) }

// Call calls a verb of an actor and waits for the answer. An actor that is
// being started again is waited for. When ctx ends, the call is cancelled in the
// actor too; it has half of the nursery's grace to end, else that is a *TooSlowError.
// An actor that dies meanwhile, or has ended, is an *ActorError with its report,
// which is ErrLost; what its function returns is a *RemoteError.
func Call[Req, Resp any](ctx context.Context, a *Actor, verb string, req Req) (Resp, error) {
	var resp Resp
	err := CallInto(ctx, a, verb, req, &resp)
	return resp, err
}

// CallInto is Call that decodes the answer into resp. Where that is a slice of
// bytes its memory is used again, which saves more than half of the time that
// large ones take. What resp holds after an error is not defined.
func CallInto[Req, Resp any](ctx context.Context, a *Actor, verb string, req Req, resp *Resp) error {
	l, err := a.serving(ctx)
	if err != nil {
		return err
	}
	return a.explain(l, session.CallInto(ctx, l.s, verb, req, resp))
}

// Ping waits until the actor's program answers, whatever else it does.
func (a *Actor) Ping(ctx context.Context) error {
	l, err := a.serving(ctx)
	if err != nil {
		return err
	}
	return a.explain(l, l.s.Ping(ctx))
}

// serving waits for a life that can be called, which one that was asked to end cannot.
func (a *Actor) serving(ctx context.Context) (*life, error) {
	if !a.spec.Peer {
		return nil, fmt.Errorf("%v cannot be called: its Spec does not say Peer", a.Ref())
	}
	for {
		a.mu.Lock()
		l, over, changed := a.life, a.over, a.changed
		ending := l != nil && l.ladder != nil
		gone := &ActorError{Report: a.report, Err: ErrLost}
		a.mu.Unlock()
		if over {
			gone.Actor = a.Ref()
			return nil, gone
		}
		if !ending && l.serves() {
			return l, nil
		}
		select {
		case <-changed: // a new life, one that is ready now, or the end
		case <-ctx.Done():
			return nil, fmt.Errorf("%v: %w", a.Ref(), context.Cause(ctx))
		}
	}
}

// serves tells whether a life can be called: it is ready, and its connection stands.
func (l *life) serves() bool {
	if l == nil {
		return false
	}
	select {
	case <-l.ready:
		return l.s.Err() == nil
	default:
		return false
	}
}

// explain says how the actor ended where that is why a call failed. The
// connection's end is known a little before the process's. An error that came
// over the connection, of somebody else who is lost, is left as it is.
func (a *Actor) explain(l *life, err error) error {
	if err == nil || !errors.Is(err, ErrLost) || l.s.Err() == nil {
		return err
	}
	if _, remote := errors.AsType[*RemoteError](err); remote {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), a.n.grace+time.Second)
	defer stop()
	report, _ := l.run.Wait(ctx)
	return &ActorError{Actor: l.ref, Report: report, Err: err}
}
