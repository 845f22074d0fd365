package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// checkVerb says whether a verb can be sent.
func checkVerb(verb string) error {
	if verb == "" || len(verb) > maxName || !utf8.ValidString(verb) {
		return fmt.Errorf("session: verb %.140q: want 1 to %d bytes of UTF-8", verb, maxName)
	}
	return nil
}

// open starts a call.
func (s *Session) open(ctx context.Context, verb string, mode Mode, payload []byte, ours bool) (*call, error) {
	if err := cmp.Or(checkVerb(verb), context.Cause(ctx)); err != nil {
		return nil, err
	}
	m := message{kind: start, verb: verb, mode: mode, payload: payload, ours: ours}
	if d, ok := ctx.Deadline(); ok {
		left := time.Until(d)
		if left <= 0 {
			return nil, context.DeadlineExceeded
		}
		m.left = millis(left)
	}
	if s.o.Headers != nil {
		m.headers = s.o.Headers(ctx)
	}
	if err := m.sound(); err != nil {
		return nil, fmt.Errorf("session: call of %s: %w", verb, err)
	}
	c := &call{s: s, mine: true, verb: verb, mode: mode, since: time.Now(), final: make(chan struct{})}
	if mode == Dialog {
		c.window = int64(s.o.Window)
		c.room, m.n = c.window, uint64(c.window)
	}
	// The number is taken and the frame put in line in one step: the numbers of a side only grow.
	err := s.lockRoom(ctx)
	if err == nil && s.err != nil {
		err = lost(s.err)
	}
	write := false
	if err == nil {
		m.cid = s.next
		write, err = s.w.put(&m)
	}
	if err == nil {
		c.cid, s.next = m.cid, m.cid+2
		s.calls[c.cid] = c
	}
	s.mu.Unlock()
	if write {
		s.w.write()
	}
	if err != nil {
		return nil, err
	}
	if mode == Dialog && s.take() { // who receives from it does not read for itself
		go s.receive()
	}
	return c, nil
}

// lockRoom waits until there is room for one more frame, whatever its size, and
// returns with mu held, whatever the error.
func (s *Session) lockRoom(ctx context.Context) error {
	for {
		s.mu.Lock()
		room, err := s.w.full()
		if err != nil || room == nil {
			return err
		}
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			s.mu.Lock()
			return context.Cause(ctx)
		}
	}
}

// Call makes one call and waits for its end. When ctx ends, the call is
// cancelled, and has the session's grace to end; a result that was on its way
// then is a result. payload is one encoded value, as is the answer; it belongs
// to the session from here on.
func (s *Session) Call(ctx context.Context, verb string, payload []byte) ([]byte, error) {
	c, err := s.open(ctx, verb, Unary, payload, false)
	if err != nil {
		return nil, err
	}
	return c.outcome(ctx)
}

// outcome waits for the call's end. When ctx ends the call is cancelled.
func (c *call) outcome(ctx context.Context) ([]byte, error) {
	cause := c.s.wait(ctx, c.final)
	if cause != nil {
		c.end(cause)
	} else if ctx.Err() != nil { // the whole program may have been cancelled with it, and this was the quicker way
		cause = context.Cause(ctx)
	}
	if cause != nil && c.ownCancel(cause) {
		return nil, fmt.Errorf("call of %s: %w", c.verb, cause)
	}
	return c.result, c.err
}

// end cancels a call in the name of cause and waits for its end, for the grace at most.
func (c *call) end(cause error) {
	c.askToEnd(cause)
	ctx, stop := context.WithTimeout(context.Background(), c.s.o.Grace)
	defer stop()
	if c.s.wait(ctx, c.final) != nil {
		c.s.mu.Lock()
		c.finishLocked(nil, &TooSlowError{Peer: c.s.o.Peer, Verb: c.verb, Acked: c.acked, Cause: cause}) // what comes later is ignored
		c.s.unlock()
	}
}

// ownCancel tells whether a call that has ended did so because this side asked,
// and of nobody else's doing: then our own reason says more than what came back.
func (c *call) ownCancel(cause error) bool {
	r, remote := errors.AsType[*RemoteError](c.err)
	switch {
	case !remote || errors.Is(c.err, ErrTooSlow):
		return false
	case errors.Is(r, context.DeadlineExceeded):
		return true
	}
	return errors.Is(r, context.Canceled) && (r.Canceller == c.s.nameOf(cause).By || r.Canceller == Ref{})
}

// nameOf is in whose name a call is cancelled.
func (s *Session) nameOf(cause error) Cancelled {
	if who, ok := errors.AsType[*Cancelled](cause); ok {
		return *who
	}
	return Cancelled{By: s.o.Self, Reason: cause.Error()}
}

// askToEnd sends CANCEL, once, in the name of whoever is the cause.
func (c *call) askToEnd(cause error) {
	by := c.s.nameOf(cause)
	c.s.mu.Lock()
	write := false
	if !c.ended && !c.tells {
		c.tells = true
		write, _ = c.s.w.put(&message{kind: cancel, cid: c.cid, by: by.By, reason: by.Reason, left: millis(c.s.o.Grace)})
	}
	c.s.mu.Unlock()
	if write {
		c.s.w.write()
	}
}
