package session

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// turn says who reads: one goroutine at a time, which dispatches what it has
// read. Mostly that is one that does nothing else. But waking another goroutine
// costs more than all else of a small call, because it wakes a thread as well.
// So while one call is all that goes on, its caller reads for itself, and what
// it calls runs where it was read. Afterwards nobody has the turn for a moment:
// the next call takes it, or watch does.
type turn struct {
	free     chan struct{}                                 // has an element while nobody has the turn
	stopper  interface{ SetReadDeadline(time.Time) error } // makes who reads give the turn up; nil: it is never left free
	used     atomic.Bool                                   // since watch looked
	watching atomic.Bool
	inline   atomic.Pointer[call] // whose function runs where it was read
	slow     map[string]int       // how often verbs that did so for too long run elsewhere; under Session.mu
	ended    bool                 // the last message ended a call of ours; of whoever has the turn
}

// tick is how long a turn may be free, or a function run where it was read,
// before there is another reader: within two of them.
const tick = time.Millisecond

// patience is how many calls of a verb run elsewhere after one that took too
// long: most verbs that wait for something always do.
const patience = 100

func (t *turn) init(rw io.ReadWriteCloser) {
	t.free, t.slow = make(chan struct{}, 1), map[string]int{}
	t.stopper, _ = rw.(interface{ SetReadDeadline(time.Time) error })
}

// take takes the turn if it is free.
func (t *turn) take() bool {
	select {
	case <-t.free:
		return true
	default:
		return false
	}
}

// leave leaves the turn to whoever comes next. Precondition: it was taken, and there is a stopper.
func (s *Session) leave() {
	s.used.Store(true)
	s.free <- struct{}{}
	if s.watching.CompareAndSwap(false, true) {
		go s.watch()
	}
}

// watch takes a turn that is free for a while, and ends when somebody has it.
func (s *Session) watch() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.done:
			return
		}
		if s.used.Swap(false) {
			continue
		}
		mine := s.take()
		s.watching.Store(false)
		if mine {
			t.Stop()
			if c := s.inline.Load(); c != nil {
				s.mu.Lock()
				s.slow[c.verb] = patience
				s.mu.Unlock()
			}
			s.receive()
			return
		}
		if len(s.free) == 0 || !s.watching.CompareAndSwap(false, true) { // else it was left just now
			return
		}
	}
}

// receive is the dispatcher: it reads until the end, or until a lone call is to
// read for itself, and never waits for anything else. Precondition: it has the turn.
func (s *Session) receive() {
	for {
		c, err := s.step()
		switch {
		case err == errAsked: // by somebody who had the turn before
		case err != nil:
			s.fall(err)
			return
		case c != nil && s.lone(c):
			s.inline.Store(c)
			s.leave()
			c.run()
			if !s.take() {
				return
			}
			s.used.Store(true)
		case c != nil:
			go c.run()
		case s.idle():
			s.leave()
			return
		}
	}
}

// lone tells whether a call is all that goes on, and may run where it was read.
func (s *Session) lone(c *call) bool {
	if s.stopper == nil || c.mode != Unary || s.l.r.Buffered() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow[c.verb] > 0 {
		s.slow[c.verb]--
		return false
	}
	return len(s.calls) == 1
}

// idle tells whether nothing goes on, after a call of ours: the next one will read for itself.
func (s *Session) idle() bool {
	if s.stopper == nil || s.l.r.Buffered() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended && len(s.calls) == 0
}

// wait waits until over is closed or the session has ended, which is nil, or ctx
// has. Where nobody reads it does.
func (s *Session) wait(ctx context.Context, over <-chan struct{}) error {
	free := s.free
	for {
		select {
		case <-over: // first, also where the end came right behind it
			return nil
		default:
		}
		select {
		case <-over:
			return nil
		case <-s.done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-free:
			s.used.Store(true)
			s.read(ctx, over)
			free = nil
		}
	}
}

// read dispatches messages until over is closed or ctx ends, and gives the turn away. Precondition: it has it.
func (s *Session) read(ctx context.Context, over <-chan struct{}) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, func() { _ = s.stopper.SetReadDeadline(time.Unix(1, 0)) })()
	}
	for {
		select {
		case <-over: // perhaps before the turn was taken: whoever had it read that last
			s.ended = true
			if s.idle() {
				s.leave()
			} else {
				go s.receive()
			}
			return
		default:
		}
		c, err := s.step()
		switch {
		case err == errAsked && ctx.Err() != nil:
			go s.receive()
			return
		case err == errAsked:
		case err != nil:
			go s.fall(err)
			return
		case c != nil:
			go c.run()
		}
	}
}

// errAsked says that whoever reads was asked to stop.
var errAsked = errors.New("session: asked to stop reading")

// step reads and dispatches one message. An error but errAsked is why the
// session ends. c is a call that is to run. Precondition: it has the turn.
func (s *Session) step() (c *call, err error) {
	body, err := s.l.read()
	switch {
	case err == nil:
	case s.stopper != nil && errors.Is(err, os.ErrDeadlineExceeded):
		if err := s.stopper.SetReadDeadline(time.Time{}); err != nil {
			return nil, lost(err)
		}
		return nil, errAsked
	case errors.Is(err, ErrProtocol):
		return nil, err
	case err == io.EOF: // between two frames
		return nil, ErrLost
	default:
		return nil, lost(err)
	}
	var m message
	if err := m.decode(body); err != nil {
		return nil, err
	}
	s.ended = false
	c, err = s.dispatch(&m)
	if err != nil && s.w.exited() { // after EXIT there are no answers, and its way out is not cut off
		err = nil
	}
	return c, err
}

// fall ends the session for what reading it came to.
func (s *Session) fall(err error) {
	if errors.Is(err, ErrLost) && s.w.exited() {
		err = ErrExited
	}
	if errors.Is(err, ErrProtocol) {
		if _, told := errors.AsType[*RemoteError](err); !told && s.w.answer(&message{kind: fail, err: fit(Pack(err, s.o.Self), s.w.cap)}) == nil {
			ctx, stop := context.WithTimeout(context.Background(), lastWords)
			_ = s.w.flushed(ctx)
			stop()
		}
	}
	s.end(err)
}
