package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Session is one connection's calls. Its methods may be called concurrently.
type Session struct {
	o Options
	l *link
	w *writer

	ctx  context.Context // ends with the session
	stop context.CancelCauseFunc
	done chan struct{} // closed when the session has ended and every handler has returned or been told

	turn // to read

	mu     sync.Mutex
	next   uint64           // cid of our next call
	seen   uint64           // cid of the other side's newest
	calls  map[uint64]*call // both sides' live ones
	theirs int              // live calls of the other side
	held   int64            // bytes that they may have us hold
	pings  map[uint64]chan struct{}
	number uint64
	acked  chan struct{} // closed when CANCEL of the whole is acknowledged
	asked  int           // CANCELs of the whole that have come, or were sent and not acknowledged
	drains bool          // nothing more is served
	err    error         // why it ended
	over   []CallInfo    // calls that Observe is to be told of
}

func newSession(l *link, o Options) *Session {
	s := &Session{o: o.defaults(), l: l, done: make(chan struct{}), calls: map[uint64]*call{}, pings: map[uint64]chan struct{}{}, acked: make(chan struct{})}
	s.turn.init(l.rw)
	// What the other side said last may tell more than that it reads no more: time to read that.
	s.w = newWriter(l, func(err error) { time.AfterFunc(lastWords, func() { s.end(err) }) })
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	if s.next = 1; o.host {
		s.next = 2
	}
	return s
}

// begin starts to listen.
func (s *Session) begin() *Session {
	go s.receive() // it has the turn
	return s
}

// unlock unlocks mu, and tells Observe of the calls that ended while it was held.
func (s *Session) unlock() {
	over := s.over
	s.over = nil
	s.mu.Unlock()
	for _, info := range over {
		s.o.Observe(info)
	}
}

// Self is who this side is, Peer who the other one is.
func (s *Session) Self() Ref { return s.o.Self }

// Peer is who the other side is; zero for the supervisor.
func (s *Session) Peer() Ref { return s.o.Peer }

// Serves tells whether the other side serves verb.
func (s *Session) Serves(verb string) bool { return s.o.verbs[verb] }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended, nil while it lives: ErrExited after EXIT or
// Close, ErrProtocol, or ErrLost.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Calls are the live ones, in no order.
func (s *Session) Calls() []CallInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]CallInfo, 0, len(s.calls))
	for _, c := range s.calls {
		list = append(list, c.info(nil, 0))
	}
	return list
}

// end ends the session for the first reason that anyone has.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	why := lost(err)
	s.w.fail(why)
	for _, c := range s.calls {
		c.finishLocked(nil, why)
	}
	s.unlock()
	s.l.rw.Close()
	s.stop(why)
	close(s.done)
}

// lost is err as what a call ends with.
func lost(err error) error {
	if errors.Is(err, ErrLost) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}
