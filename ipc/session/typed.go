package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"sandboxd/ipc/codec"
)

// Lent is bytes of a message that are not copied, for large ones: as a request,
// or part of one, they are the function's until its answer has been encoded, and
// overwritten then; as an answer or an item they are the receiver's for good.
type Lent = codec.Lent

// Handle serves verb by a function of one request and one answer. A payload
// that is no Req is refused before f sees it. Functions run concurrently, but the
// goroutine of one may run others later: a runtime.LockOSThread must be undone.
func Handle[Req, Resp any](m *Mux, verb string, f func(context.Context, Req) (Resp, error)) {
	m.Add(verb, Unary, func(ctx context.Context, c *Inbound) ([]byte, error) {
		var req Req
		if err := c.take(&req); err != nil {
			return nil, err
		}
		resp, err := f(ctx, req)
		return c.give(resp, err)
	})
}

// take decodes the payload, of which nothing is left then but what is lent.
func (c *Inbound) take(req any) (err error) {
	b := c.payload
	c.payload = nil
	c.lent, err = consume(b, req)
	return err
}

// give encodes what a function returned. What was lent to it is free then.
func (c *Inbound) give(resp any, err error) (b []byte, _ error) {
	if err == nil {
		b, err = encode(resp)
		c.ours = err == nil
	}
	recycle(c.lent)
	c.lent = nil
	return b, err
}

// ServerStream is the server's end of a dialog: it receives In and sends Out.
type ServerStream[In, Out any] struct{ s *Stream }

// HandleStream serves verb by a dialog: f gets the first value, says Started,
// sends and receives, and returns the result.
func HandleStream[Req, In, Out, Resp any](m *Mux, verb string, f func(context.Context, Req, ServerStream[In, Out]) (Resp, error)) {
	m.Add(verb, Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
		var req Req
		if err := c.take(&req); err != nil {
			return nil, err
		}
		resp, err := f(ctx, req, ServerStream[In, Out]{c.Stream()})
		return c.give(resp, err)
	})
}

// Started says the dialog's first value, once, before the first Send.
func (d ServerStream[In, Out]) Started(ctx context.Context, value any) error {
	b, err := encode(value)
	if err != nil {
		return err
	}
	return d.s.Start(ctx, b)
}

// Send sends one item, and waits where the reader is slow.
func (d ServerStream[In, Out]) Send(ctx context.Context, item Out) error { return send(ctx, d.s, item) }

// Recv gives the opener's next item; io.EOF after the last.
func (d ServerStream[In, Out]) Recv(ctx context.Context) (In, error) { return recv[In](ctx, d.s) }

// All are the opener's items, up to the first error, which comes with a zero item; io.EOF does not.
func (d ServerStream[In, Out]) All(ctx context.Context) iter.Seq2[In, error] {
	return all[In](ctx, d.s)
}

// CloseSend says that no more items come from here.
func (d ServerStream[In, Out]) CloseSend() error { return d.s.CloseSend() }

// Call makes a call with a typed request and answer.
func Call[Req, Resp any](ctx context.Context, s *Session, verb string, req Req) (resp Resp, err error) {
	err = CallInto(ctx, s, verb, req, &resp)
	return resp, err
}

// CallInto is Call that decodes the answer into resp. Where that is a slice of
// bytes its memory is used again, which saves more than half of the time that
// large ones take. What resp holds after an error is not defined.
func CallInto[Req, Resp any](ctx context.Context, s *Session, verb string, req Req, resp *Resp) error {
	b, err := encode(req)
	if err != nil {
		return err
	}
	c, err := s.open(ctx, verb, Unary, b, true)
	if err != nil {
		return err
	}
	if b, err = c.outcome(ctx); err != nil {
		return err
	}
	if _, err := consume(b, resp); err != nil {
		return fmt.Errorf("answer of %s: %w", verb, err)
	}
	return nil
}

// ClientStream is the opener's end of a dialog: it sends Out and receives In.
type ClientStream[Out, In any] struct{ s *Stream }

// OpenStream opens a dialog. ctx bounds the opening; end it by Result, Cancel or Close.
func OpenStream[Out, In, Req any](ctx context.Context, s *Session, verb string, req Req) (*ClientStream[Out, In], error) {
	b, err := encode(req)
	if err != nil {
		return nil, err
	}
	c, err := s.open(ctx, verb, Dialog, b, true)
	if err != nil {
		return nil, err
	}
	return &ClientStream[Out, In]{&Stream{c}}, nil
}

// Started waits for the dialog's first value and decodes it into value, which
// is a pointer, or nil where nobody cares what it is.
func (c *ClientStream[Out, In]) Started(ctx context.Context, value any) error {
	b, err := c.s.Started(ctx)
	if err != nil || value == nil {
		return err
	}
	return decode(b, value)
}

// Send sends one item, and waits where the reader is slow.
func (c *ClientStream[Out, In]) Send(ctx context.Context, item Out) error {
	return send(ctx, c.s, item)
}

// Recv gives the server's next item; io.EOF after the last.
func (c *ClientStream[Out, In]) Recv(ctx context.Context) (In, error) { return recv[In](ctx, c.s) }

// All are the server's items, up to the first error, which comes with a zero item; io.EOF does not.
func (c *ClientStream[Out, In]) All(ctx context.Context) iter.Seq2[In, error] {
	return all[In](ctx, c.s)
}

// CloseSend says that no more items come from here.
func (c *ClientStream[Out, In]) CloseSend() error { return c.s.CloseSend() }

// Result throws away what was not received, waits for the end, and decodes the
// result into value, which is a pointer, or nil where nobody cares what it is.
func (c *ClientStream[Out, In]) Result(ctx context.Context, value any) error {
	b, err := c.s.Result(ctx)
	if err != nil || value == nil {
		return err
	}
	return decode(b, value)
}

// Cancel ends the dialog in the name of cause, and waits for its end.
func (c *ClientStream[Out, In]) Cancel(cause error) error { return c.s.Cancel(cause) }

// Close cancels the dialog if it has not ended: to be deferred.
func (c *ClientStream[Out, In]) Close() error {
	return c.s.Cancel(&Cancelled{By: c.s.c.s.o.Self, Reason: "closed"})
}

func encode(v any) ([]byte, error) {
	b := buffer(0)
	if b == nil {
		b = make([]byte, 0, 128)
	}
	b, err := codec.Append(b, v)
	if err != nil {
		recycle(b)
		return nil, fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	return b, nil
}

func decode(b []byte, v any) error { return bad(codec.Unmarshal(b, v)) }

// consume decodes what nobody else has. Its bytes are free then, unless they are lent to v.
func consume(b []byte, v any) (lent []byte, err error) {
	kept, err := codec.Adopt(b, v)
	if !kept {
		recycle(b)
		b = nil
	}
	return b, bad(err)
}

func bad(err error) error {
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	return err
}

func send[T any](ctx context.Context, s *Stream, item T) error {
	b, err := encode(item)
	if err != nil {
		return err
	}
	return s.send(ctx, b, true)
}

func recv[T any](ctx context.Context, s *Stream) (item T, err error) {
	b, err := s.Recv(ctx)
	if err == nil {
		_, err = consume(b, &item)
	}
	return item, err
}

func all[T any](ctx context.Context, s *Stream) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			item, err := recv[T](ctx, s)
			if errors.Is(err, io.EOF) || !yield(item, err) || err != nil {
				return
			}
		}
	}
}
