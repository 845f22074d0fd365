package session

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Inbound is a call of the other side that is being served.
type Inbound struct{ *call }

// Verb is what was called.
func (c *Inbound) Verb() string { return c.verb }

// Payload is the encoded value that came with it. It is the receiver's.
func (c *Inbound) Payload() []byte { return c.payload }

// Headers are what came beside it.
func (c *Inbound) Headers() map[string]string { return c.headers }

// Session is the one that it came over.
func (c *Inbound) Session() *Session { return c.s }

// Stream is the opener's end of a dialog's streams; nil of a unary call.
func (c *Inbound) Stream() *Stream {
	if c.mode != Dialog {
		return nil
	}
	return &Stream{c.call}
}

// serve begins a call of the other side, unless it is refused.
func (s *Session) serve(m *message) (*call, error) {
	v := s.o.Mux.find(m.verb)
	held := int64(len(m.payload))
	if m.mode == Dialog {
		held += int64(s.o.Window) + int64(s.l.cap)
	}
	s.mu.Lock()
	if s.ours(m.cid) || m.cid <= s.seen {
		s.mu.Unlock()
		return nil, violation("START of call %d after %d", m.cid, s.seen)
	}
	s.seen = m.cid
	var refused error
	switch {
	case v.f == nil:
		refused = fmt.Errorf("%w: %q", ErrUnknownVerb, m.verb)
	case v.mode != m.mode:
		refused = fmt.Errorf("%w: %q", ErrWrongMode, m.verb)
	case s.drains || s.err != nil:
		refused = fmt.Errorf("%w: it ends", ErrBusy)
	case s.theirs >= s.o.Calls, s.held+held > s.o.Budget && s.theirs > 0:
		refused = fmt.Errorf("%w: %d are open, with %d bytes", ErrBusy, s.theirs, s.held)
	}
	if refused != nil {
		s.mu.Unlock()
		return nil, s.w.answer(&message{kind: fail, cid: m.cid, err: Pack(refused, s.o.Self)})
	}
	c := &call{s: s, cid: m.cid, verb: m.verb, mode: m.mode, since: time.Now(), payload: m.payload, headers: m.headers, held: held, final: make(chan struct{})}
	c.f, c.left = v.f, duration(m.left)
	c.credit, c.window = int64(m.n), int64(s.o.Window)
	c.room = c.window
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	s.calls[c.cid] = c
	s.theirs++
	s.held += held
	s.mu.Unlock()
	return c, nil
}

// run calls the function and answers. What the call holds is held until the
// function returns, also where its deadline has ended the call before.
func (c *call) run() {
	defer func() {
		c.s.inline.CompareAndSwap(c, nil)
		c.s.mu.Lock()
		c.s.theirs--
		c.s.held -= c.held
		c.s.mu.Unlock()
	}()
	in := &Inbound{c}
	ctx := c.ctx
	if c.left > 0 {
		timed, stop := context.WithTimeout(ctx, c.left)
		defer stop()
		defer context.AfterFunc(timed, func() { // also where f does not look at its context
			if errors.Is(timed.Err(), context.DeadlineExceeded) {
				c.answer(nil, context.DeadlineExceeded)
			}
		})()
		ctx = timed
	}
	if c.mode == Dialog {
		if err := c.accept(ctx); err != nil {
			c.answer(nil, err)
			return
		}
	}
	result, err := c.guarded(ctx, in)
	if err != nil && errors.Is(err, context.Canceled) {
		who, asked := errors.AsType[*Cancelled](context.Cause(ctx))
		_, says := errors.AsType[*Cancelled](err)
		_, remote := errors.AsType[*RemoteError](err)
		if asked && !says && !remote {
			err = who // so that the canceller is told
		}
	}
	c.answer(result, err)
}

// accept says STARTACK.
func (c *call) accept(ctx context.Context) error {
	err := c.s.lockRoom(ctx)
	write := false
	if err == nil && !c.ended {
		if write, err = c.s.w.put(&message{kind: startAck, cid: c.cid, n: uint64(c.window)}); err == nil {
			c.accepted = true
		}
	}
	c.s.mu.Unlock()
	if write {
		c.s.w.write()
	}
	return err
}

// guarded turns a panic into an error: it must not take the others' calls along.
func (c *call) guarded(ctx context.Context, in *Inbound) (result []byte, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			err = &panicError{v, string(debug.Stack())}
		} else {
			err = fmt.Errorf("%w: it called runtime.Goexit", ErrPanic)
			c.answer(nil, err) // nothing after this defer runs
		}
	}()
	if c.s.o.Context != nil {
		ctx = c.s.o.Context(ctx, in)
	}
	result, err = c.f(ctx, in)
	returned = true
	return result, err
}

// answer ends a call of the other side, unless it has ended. It waits for room:
// a peer that does not read its answers has its calls stay open.
func (c *call) answer(result []byte, err error) {
	m := message{kind: giveBack, cid: c.cid, payload: result}
	if err == nil { // by the function's own goroutine
		m.ours = c.ours
		if serr := m.sound(); serr != nil {
			err = fmt.Errorf("result of %s: %w", c.verb, serr)
		}
	}
	if err != nil {
		m = message{kind: fail, cid: c.cid, err: fit(Pack(err, c.s.o.Self), c.s.w.cap)}
	}
	write := false
	if c.s.lockRoom(c.s.ctx) == nil && !c.ended {
		var werr error
		if write, werr = c.s.w.put(&m); errors.Is(werr, ErrTooLarge) {
			err = fmt.Errorf("result of %s: %w", c.verb, werr)
			write, _ = c.s.w.put(&message{kind: fail, cid: c.cid, err: fit(Pack(err, c.s.o.Self), c.s.w.cap)})
		}
		c.finishLocked(nil, err)
	}
	c.s.unlock()
	if write {
		c.s.w.write()
	}
}
