package sandbox

import (
	"context"
	"errors"
	"io"
	"iter"

	"sandboxd/ipc/session"
)

// ClientStream is the opener's end of a dialog; see OpenStream. One goroutine
// may send while another one receives. An actor that dies is an *ActorError
// with its report.
type ClientStream[Out, In any] struct {
	s *session.ClientStream[Out, In]
	a *Actor
	l *life
}

// OpenStream opens a dialog with a verb of an actor: it sends Out and receives
// In. ctx bounds the opening. Close it, or take its Result.
func OpenStream[Out, In, Req any](ctx context.Context, a *Actor, verb string, req Req) (*ClientStream[Out, In], error) {
	l, err := a.serving(ctx)
	if err != nil {
		return nil, err
	}
	s, err := session.OpenStream[Out, In](ctx, l.s, verb, req)
	if err != nil {
		return nil, a.explain(l, err)
	}
	return &ClientStream[Out, In]{s, a, l}, nil
}

// Started waits for the dialog's first value and decodes it into value, which
// is a pointer, or nil where nobody cares what it is.
func (c *ClientStream[Out, In]) Started(ctx context.Context, value any) error {
	return c.a.explain(c.l, c.s.Started(ctx, value))
}

// Send sends one item, and waits where the reader is slow. After the dialog's end it is ErrEnded, or why it ended.
func (c *ClientStream[Out, In]) Send(ctx context.Context, item Out) error {
	return c.a.explain(c.l, c.s.Send(ctx, item))
}

// Recv gives the actor's next item; io.EOF after the last.
func (c *ClientStream[Out, In]) Recv(ctx context.Context) (In, error) {
	item, err := c.s.Recv(ctx)
	return item, c.a.explain(c.l, err)
}

// All are the actor's items, up to the first error, which comes with a zero item; io.EOF does not.
func (c *ClientStream[Out, In]) All(ctx context.Context) iter.Seq2[In, error] {
	return func(yield func(In, error) bool) {
		for {
			item, err := c.Recv(ctx)
			if errors.Is(err, io.EOF) || !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// CloseSend says that no more items come from here. A second call is nil.
func (c *ClientStream[Out, In]) CloseSend() error { return c.a.explain(c.l, c.s.CloseSend()) }

// Result throws away what was not received, waits for the end, and decodes the
// result into value, which is a pointer, or nil where nobody cares what it is.
// When ctx ends, the dialog is cancelled.
func (c *ClientStream[Out, In]) Result(ctx context.Context, value any) error {
	return c.a.explain(c.l, c.s.Result(ctx, value))
}

// Cancel ends the dialog in the name of cause, and waits for its end: a
// *TooSlowError where that takes more than half of the nursery's grace.
func (c *ClientStream[Out, In]) Cancel(cause error) error { return c.s.Cancel(cause) }

// Close cancels the dialog if it has not ended: to be deferred.
func (c *ClientStream[Out, In]) Close() error { return c.s.Close() }
