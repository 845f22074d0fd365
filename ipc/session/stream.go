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

// Open starts a dialog. ctx bounds the opening only: end the dialog by Result or
// Cancel. payload belongs to the session from here on.
func (s *Session) Open(ctx context.Context, verb string, payload []byte) (*Stream, error) {
	c, err := s.open(ctx, verb, Dialog, payload, false)
	if err != nil {
		return nil, err
	}
	return &Stream{c}, nil
}

// Send sends one item, which belongs to the session from here on. It waits while
// the other side's window is full, until the dialog or ctx ends: a slow reader
// slows its writer.
func (s *Stream) Send(ctx context.Context, item []byte) error { return s.send(ctx, item, false) }

func (s *Stream) send(ctx context.Context, item []byte, ours bool) error {
	c := s.c
	m := message{kind: yield, cid: c.cid, payload: item, ours: ours}
	if err := m.sound(); err != nil {
		return fmt.Errorf("session: item of %s: %w", c.verb, err)
	}
	err := c.lockBoth(ctx, func() bool { return c.credit > 0 || c.weStop })
	if err == nil {
		err = c.mayLocked(c.begun || c.mine, "the server of a dialog says Started before its first item")
	}
	write, price := false, cost(m.payload)
	if err == nil {
		write, err = c.s.w.put(&m) // in one step with the credit, and before an end
	}
	if err == nil {
		c.credit -= price
	}
	c.s.mu.Unlock()
	if write {
		c.s.w.later()
	}
	return err
}

// mayLocked is why this side may not send on a stream.
func (c *call) mayLocked(ok bool, rule string) error {
	if err := c.whyLocked(); err != nil {
		return err
	}
	if c.weStop {
		return fmt.Errorf("session: send after CloseSend: %w", ErrEnded)
	}
	if !ok {
		return errors.New("session: " + rule)
	}
	return nil
}

// CloseSend says that no more items come from this side. A second call is nil.
func (s *Stream) CloseSend() error {
	c := s.c
	c.s.mu.Lock()
	if c.weStop || c.ended {
		c.s.mu.Unlock()
		return nil
	}
	write, err := c.s.w.put(&message{kind: stop, cid: c.cid})
	c.weStop = true
	c.wakeLocked()
	c.s.mu.Unlock()
	if write {
		c.s.w.write()
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
		c.s.w.later()
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
	m := message{kind: started, cid: c.cid, payload: value}
	if c.mine {
		return errors.New("session: the opener of a dialog does not say Started")
	}
	if err := m.sound(); err != nil {
		return fmt.Errorf("session: first value of %s: %w", c.verb, err)
	}
	err := c.lockBoth(ctx, func() bool { return true })
	if err == nil {
		err = c.mayLocked(!c.begun, "Started was said already")
	}
	write := false
	if err == nil {
		write, err = c.s.w.put(&m)
		c.begun = err == nil
	}
	c.s.mu.Unlock()
	if write {
		c.s.w.write()
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
	if !s.c.mine {
		return nil, errors.New("session: the server of a dialog has its result itself")
	}
	for {
		if _, err := s.Recv(ctx); err != nil {
			return s.c.outcome(ctx)
		}
	}
}

// Cancel ends the dialog in the name of cause and waits for its end, for the
// session's grace at most. nil if it has ended then, however. Opener's end only.
func (s *Stream) Cancel(cause error) error {
	c := s.c
	if !c.mine {
		return errors.New("session: only the opener of a dialog cancels it")
	}
	if cause == nil {
		cause = context.Canceled
	}
	select {
	case <-c.final:
		return nil
	default:
	}
	if c.end(cause); errors.Is(c.err, ErrTooSlow) {
		return c.err
	}
	return nil
}

// Done is closed when the dialog has ended.
func (s *Stream) Done() <-chan struct{} { return s.c.final }
