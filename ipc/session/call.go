package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// call is one call, at either of its ends. What is not set at birth is guarded by Session.mu.
type call struct {
	s       *Session
	cid     uint64
	mine    bool // opened on this side
	verb    string
	mode    Mode
	since   time.Time
	payload []byte            // of START, on the server's side
	headers map[string]string // of START, on the server's side

	ended  bool
	result []byte
	err    error
	final  chan struct{} // closed when ended

	// Streams.
	window   int64    // bytes that we hold ready
	credit   int64    // bytes that we may still send
	room     int64    // bytes that the other side may still send
	eaten    int64    // bytes taken by our reader and not given back yet
	queue    [][]byte // items for our reader
	first    []byte   // of STARTED, on the opener's side
	begun    bool     // STARTED was received, or sent
	accepted bool     // STARTACK was received, or sent
	theyStop bool     // STOP was received
	weStop   bool     // STOP was sent
	signal   chan struct{}

	// Server's side.
	ctx    context.Context
	cancel context.CancelCauseFunc
	held   int64
	acked  bool // opener's side: CANCELACK was received
}

// wake lets everybody who waits on the call look again. Precondition: s.mu is held.
func (c *call) wakeLocked() {
	if c.signal != nil {
		close(c.signal)
		c.signal = nil
	}
}

// waitLocked gives a channel that wakeLocked closes. Precondition: s.mu is held.
func (c *call) waitLocked() <-chan struct{} {
	if c.signal == nil {
		c.signal = make(chan struct{})
	}
	return c.signal
}

// finishLocked ends the call here. Precondition: s.mu is held.
func (c *call) finishLocked(result []byte, err error) {
	if c.ended {
		return
	}
	c.ended, c.result, c.err = true, result, err
	delete(c.s.calls, c.cid)
	if !c.mine {
		c.s.theirs--
		c.s.held -= c.held
		c.queue = nil
		c.cancel(err)
	}
	close(c.final)
	c.wakeLocked()
	if c.s.o.Observe != nil {
		go c.s.o.Observe(c.info(err, time.Since(c.since)))
	}
}

func (c *call) info(err error, took time.Duration) CallInfo {
	return CallInfo{Verb: c.verb, Mode: c.mode, Inbound: !c.mine, Since: c.since, Took: took, Err: err}
}

// receiveLocked handles a message for a live call. Precondition: s.mu is held.
func (c *call) receiveLocked(m *message) error {
	stream := c.mode == Dialog
	switch {
	case m.kind == giveBack && c.mine:
		c.finishLocked(m.payload, nil)
	case m.kind == fail && c.mine:
		c.finishLocked(nil, m.err)
	case m.kind == cancelAck && c.mine:
		c.acked = true
	case m.kind == cancel && !c.mine:
		_ = c.s.w.answer(&message{kind: cancelAck, cid: c.cid})
		c.cancel(&Cancelled{m.by, m.reason})
		c.wakeLocked()
	case m.kind == startAck && c.mine && stream && !c.accepted:
		c.accepted = true
		c.credit += int64(m.n)
		c.wakeLocked()
	case m.kind == started && c.mine && stream && c.accepted && !c.begun:
		c.begun, c.first = true, m.payload
		c.wakeLocked()
	case m.kind == yield && stream && !c.theyStop && c.room > 0 && (!c.mine || c.begun):
		c.room -= cost(m.payload)
		c.queue = append(c.queue, m.payload)
		c.wakeLocked()
	case m.kind == credit && stream && c.credit+int64(m.n) <= maxNumber:
		c.credit += int64(m.n)
		c.wakeLocked()
	case m.kind == stop && stream && !c.theyStop:
		c.theyStop = true
		c.wakeLocked()
	default:
		return violation("%v for call %d of %s: not now, or not from this side", m.kind, c.cid, c.verb)
	}
	return nil
}

// cost is what an item takes of a window.
func cost(payload []byte) int64 { return int64(max(len(payload), minItem)) }

// open starts a call.
func (s *Session) open(ctx context.Context, verb string, mode Mode, payload []byte) (*call, error) {
	m := message{kind: start, verb: verb, mode: mode, payload: payload}
	if verb == "" || len(verb) > maxName {
		return nil, fmt.Errorf("session: verb %q: want 1 to %d bytes", verb, maxName)
	}
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
	c := &call{s: s, mine: true, verb: verb, mode: mode, since: time.Now(), final: make(chan struct{})}
	if mode == Dialog {
		c.window = int64(s.o.Window)
		c.room, m.n = c.window, uint64(c.window)
	}
	if err := s.w.wait(ctx); err != nil {
		return nil, err
	}
	// The number is taken and the frame put in line in one step: the numbers of a side only grow.
	s.mu.Lock()
	if s.err != nil || s.exited {
		err := lost(cmp.Or(s.err, ErrExited))
		s.mu.Unlock()
		return nil, err
	}
	m.cid = s.next
	write, err := s.w.put(&m)
	if err == nil {
		c.cid, s.next = m.cid, m.cid+2
		s.calls[c.cid] = c
	}
	s.mu.Unlock()
	if write {
		s.w.write()
	}
	return c, err
}

// Call makes one call and waits for its end. When ctx ends, the call is
// cancelled, and has the session's grace to end; a result that was on its way
// then is a result. payload is one encoded value, as is the answer.
func (s *Session) Call(ctx context.Context, verb string, payload []byte) ([]byte, error) {
	c, err := s.open(ctx, verb, Unary, payload)
	if err != nil {
		return nil, err
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

// end cancels a call whose ctx has ended and waits for its end, for the grace at most.
func (c *call) end(ctx context.Context) error {
	cause := context.Cause(ctx)
	c.askToEnd(cause)
	t := time.NewTimer(c.s.o.Grace)
	defer t.Stop()
	select {
	case <-c.final:
	case <-t.C:
		c.s.mu.Lock()
		acked := c.acked
		slow := &TooSlowError{Peer: c.s.o.Peer, Verb: c.verb, Acked: acked, Cause: cause}
		c.finishLocked(nil, slow) // what comes later is ignored
		c.s.mu.Unlock()
		<-c.final
	}
	if _, own := errors.AsType[*RemoteError](c.err); own && errors.Is(c.err, context.Canceled) || errors.Is(c.err, context.DeadlineExceeded) {
		return fmt.Errorf("call of %s: %w", c.verb, cause) // our own cancel, come back
	}
	return nil
}

// askToEnd sends CANCEL, in the name of whoever is the cause.
func (c *call) askToEnd(cause error) {
	by := Cancelled{By: c.s.o.Self, Reason: cause.Error()}
	if who, ok := errors.AsType[*Cancelled](cause); ok {
		by = *who
	}
	_ = c.s.w.answer(&message{kind: cancel, cid: c.cid, by: by.By, reason: by.Reason, left: millis(c.s.o.Grace)})
}
