package session

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Stream is one end of a dialog, of encoded values. One goroutine may send
// while another one receives.
type Stream struct{ c *call }

// Open starts a dialog. ctx bounds the opening only: end the dialog by Result or Cancel.
func (s *Session) Open(ctx context.Context, verb string, payload []byte) (*Stream, error) {
	c, err := s.open(ctx, verb, Dialog, payload)
	if err != nil {
		return nil, err
	}
	return &Stream{c}, nil
}

// await waits until ready says true, the call has ended, or ctx has; it returns
// with Session.mu held, whatever the error.
func (c *call) await(ctx context.Context, ready func() bool) error {
	c.s.mu.Lock()
	for !ready() && !c.ended && (c.mine || c.ctx.Err() == nil) {
		signal, served := c.waitLocked(), context.Context(nil)
		if !c.mine {
			served = c.ctx
		}
		c.s.mu.Unlock()
		err := sleep(ctx, served, signal)
		c.s.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx, served context.Context, signal <-chan struct{}) error {
	var over <-chan struct{}
	if served != nil {
		over = served.Done()
	}
	select {
	case <-signal:
		return nil
	case <-over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// whyLocked is why a stream cannot go on.
func (c *call) whyLocked() error {
	switch {
	case c.err != nil:
		return c.err
	case c.ended:
		return ErrEnded
	case !c.mine && c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	}
	return nil
}

// Send sends one item. It waits while the other side's window is full, until
// the dialog or ctx ends: a slow reader slows its writer.
func (s *Stream) Send(ctx context.Context, item []byte) error {
	c := s.c
	if n := len(item) + 32; n > c.s.l.cap {
		return fmt.Errorf("%w: an item of %d bytes, at most %d", ErrTooLarge, len(item), c.s.l.cap-32)
	}
	if err := c.s.w.wait(ctx); err != nil {
		return err
	}
	err := c.await(ctx, func() bool { return c.credit > 0 || c.weStop })
	switch {
	case err != nil:
	case c.weStop:
		err = fmt.Errorf("send after CloseSend: %w", ErrEnded)
	case !c.mine && !c.begun && c.whyLocked() == nil:
		err = errors.New("session: the server of a dialog says Started before its first item")
	default:
		err = c.whyLocked()
	}
	if err != nil {
		c.s.mu.Unlock()
		return err
	}
	c.credit -= cost(item)
	write, err := c.s.w.put(&message{kind: yield, cid: c.cid, payload: item}) // in one step with the credit, and before an end
	c.s.mu.Unlock()
	if write {
		err = c.s.w.write()
	}
	return err
}

// CloseSend says that no more items come from this side. A second call is nil.
func (s *Stream) CloseSend() error {
	c := s.c
	c.s.mu.Lock()
	if c.weStop || c.ended {
		c.s.mu.Unlock()
		return nil
	}
	c.weStop = true
	write, err := c.s.w.put(&message{kind: stop, cid: c.cid})
	c.wakeLocked()
	c.s.mu.Unlock()
	if write {
		err = c.s.w.write()
	}
	return err
}

// Recv gives the next item, which is the receiver's. After the last one it is
// io.EOF, or why the dialog ended where that was not well.
func (s *Stream) Recv(ctx context.Context) ([]byte, error) {
	c := s.c
	err := c.await(ctx, func() bool { return len(c.queue) > 0 || c.theyStop })
	if err == nil && len(c.queue) == 0 {
		if err = c.whyLocked(); err == nil || errors.Is(err, ErrEnded) {
			err = io.EOF
		}
	}
	if err != nil {
		c.s.mu.Unlock()
		return nil, err
	}
	item := c.queue[0]
	c.queue[0] = nil
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	write := c.eatLocked(cost(item))
	c.s.mu.Unlock()
	if write {
		_ = c.s.w.write()
	}
	return item, nil
}

// eatLocked gives credit back, in portions.
func (c *call) eatLocked(n int64) (write bool) {
	c.eaten += n
	if c.ended || c.theyStop || c.eaten < c.window/4 {
		return false
	}
	c.room += c.eaten
	write, _ = c.s.w.put(&message{kind: credit, cid: c.cid, n: uint64(c.eaten)})
	c.eaten = 0
	return write
}

// Start says the dialog's first value. The server's end says it once, before its first item.
func (s *Stream) Start(ctx context.Context, value []byte) error {
	c := s.c
	if c.mine {
		return errors.New("session: the opener of a dialog does not say Started")
	}
	c.s.mu.Lock()
	err := c.whyLocked()
	if err == nil && c.begun {
		err = errors.New("session: Started was said already")
	}
	if err != nil {
		c.s.mu.Unlock()
		return err
	}
	c.begun = true
	write, err := c.s.w.put(&message{kind: started, cid: c.cid, payload: value})
	if err != nil {
		c.begun = false
	}
	c.s.mu.Unlock()
	if write {
		err = c.s.w.write()
	}
	return err
}

// Started waits for the first value that the server says. Opener's end only.
func (s *Stream) Started(ctx context.Context) ([]byte, error) {
	c := s.c
	if !c.mine {
		return nil, errors.New("session: the server of a dialog says Started itself")
	}
	err := c.await(ctx, func() bool { return c.begun })
	defer c.s.mu.Unlock()
	if err == nil && !c.begun {
		if err = c.whyLocked(); errors.Is(err, ErrEnded) {
			err = fmt.Errorf("it ended without saying Started: %w", ErrEnded)
		}
	}
	return c.first, err
}

// Result waits for the dialog's end; what nobody received until then is thrown
// away. When ctx ends the dialog is cancelled, as Session.Call is. Opener's end only.
func (s *Stream) Result(ctx context.Context) ([]byte, error) {
	c := s.c
	if !c.mine {
		return nil, errors.New("session: the server of a dialog has its result itself")
	}
	for {
		_, err := s.Recv(ctx)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			if err := c.end(ctx); err != nil {
				return nil, err
			}
		}
		break
	}
	select {
	case <-c.final:
	case <-ctx.Done():
		if err := c.end(ctx); err != nil {
			return nil, err
		}
	}
	return c.result, c.err
}

// Cancel ends the dialog in the name of cause and waits for its end, for the
// session's grace at most. nil if it has ended then, however. Opener's end only.
func (s *Stream) Cancel(cause error) error {
	c := s.c
	if !c.mine {
		return errors.New("session: only the opener of a dialog cancels it")
	}
	ctx, stop := context.WithCancelCause(context.Background())
	stop(cause)
	select {
	case <-c.final:
		return nil
	default:
	}
	if err := c.end(ctx); errors.Is(err, ErrTooSlow) {
		return err
	}
	if errors.Is(c.err, ErrTooSlow) {
		return c.err
	}
	return nil
}

// Done is closed when the dialog has ended.
func (s *Stream) Done() <-chan struct{} { return s.c.final }
