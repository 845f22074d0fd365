package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Options of a session. The zero value serves nothing and has the defaults of this package.
type Options struct {
	Self Ref  // who this side is, in what it cancels and passes on; Join fills it in
	Peer Ref  // who the other side is; Welcome fills it in
	Mux  *Mux // what this side serves; nil: nothing

	// Cancelled is called, once, when the supervisor asks the whole program to
	// end. Programs only; the acknowledgement has been sent.
	Cancelled func(c *Cancelled, grace time.Duration)
	// Headers gives what a call carries of its context, such as a trace; nil: nothing.
	Headers func(context.Context) map[string]string
	// Context derives what a served call runs in; nil: the session's own.
	Context func(ctx context.Context, c *Inbound) context.Context
	// Observe, if set, is told of every call served or made, when it ends.
	Observe func(CallInfo)

	Window int           // bytes of each stream that are held here; 0: DefaultWindow
	Budget int64         // 0: DefaultBudget
	Calls  int           // 0: DefaultCalls
	Grace  time.Duration // 0: DefaultGrace

	host  bool // this side is the supervisor
	verbs map[string]bool
}

// CallInfo is what Calls and Options.Observe tell of a call.
type CallInfo struct {
	Verb    string
	Mode    Mode
	Inbound bool // the other side opened it
	Since   time.Time
	Took    time.Duration // 0 while it runs
	Err     error         // how it ended; nil while it runs, or well
}

// Session is one connection's calls. Its methods may be called concurrently.
type Session struct {
	o Options
	l *link
	w *writer

	ctx  context.Context // ends with the session
	stop context.CancelCauseFunc
	done chan struct{} // closed when the session has ended and every handler has returned or been told

	mu     sync.Mutex
	next   uint64           // cid of our next call
	seen   uint64           // cid of the other side's newest
	calls  map[uint64]*call // both sides' live ones
	theirs int              // live calls of the other side
	held   int64            // bytes that they may have us hold
	pings  map[uint64]chan struct{}
	number uint64
	acked  chan struct{} // closed when CANCEL of the whole is acknowledged
	exited bool          // the program said EXIT
	asked  bool          // CANCEL of the whole has come
	drains bool          // nothing more is served
	err    error         // why it ended
}

func newSession(l *link, o Options) *Session {
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if o.Calls <= 0 {
		o.Calls = DefaultCalls
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	s := &Session{o: o, l: l, w: newWriter(l), done: make(chan struct{}), calls: map[uint64]*call{}, pings: map[uint64]chan struct{}{}, acked: make(chan struct{})}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	if s.next = 1; o.host {
		s.next = 2
	}
	go s.receive()
	return s
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

// lastWords is how long a peer that broke the protocol may take to be told.
const lastWords = 100 * time.Millisecond

// receive is the dispatcher: it reads until the end, and never waits for anything else.
func (s *Session) receive() {
	var err error
	for {
		var body []byte
		if body, err = s.l.read(); err != nil {
			break
		}
		var m message
		if err = m.decode(body); err != nil {
			break
		}
		if err = s.dispatch(&m); err != nil {
			break
		}
	}
	s.mu.Lock()
	exited := s.exited
	s.mu.Unlock()
	_, told := errors.AsType[*RemoteError](err)
	switch {
	case told:
	case errors.Is(err, ErrProtocol):
		if s.w.answer(&message{kind: fail, err: Pack(err, s.o.Self)}) == nil {
			ctx, stop := context.WithTimeout(context.Background(), lastWords)
			_ = s.w.flushed(ctx)
			stop()
		}
	case exited:
		err = ErrExited
	case errors.Is(err, io.EOF):
		err = ErrLost
	default:
		err = lost(err)
	}
	s.end(err)
}

// end ends the session for the first reason that anyone has.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	calls := s.calls
	s.calls = map[uint64]*call{}
	s.mu.Unlock()
	s.w.fail(lost(err))
	s.l.rw.Close()
	s.stop(lost(err))
	for _, c := range calls {
		s.mu.Lock()
		c.finishLocked(nil, lost(err))
		s.mu.Unlock()
	}
	close(s.done)
}

// lost is err as what a call ends with.
func lost(err error) error {
	if errors.Is(err, ErrLost) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// Close ends the session at once. Of a program, Exit is the polite way.
func (s *Session) Close() error {
	s.end(ErrExited)
	return nil
}

// Exit says that the program ends, and closes when that has been written or ctx ends.
func (s *Session) Exit(ctx context.Context) error {
	err := s.w.answer(&message{kind: exit})
	if err == nil {
		err = s.w.flushed(ctx)
	}
	s.end(ErrExited)
	return err
}

// Drain cancels what is served, in the name of cause, and waits until it is
// answered or ctx ends. Calls that come meanwhile are refused.
func (s *Session) Drain(ctx context.Context, cause *Cancelled) {
	s.mu.Lock()
	s.drains = true
	var left []*call
	for _, c := range s.calls {
		if !c.mine {
			left = append(left, c)
			c.cancel(cause)
			c.wakeLocked()
		}
	}
	s.mu.Unlock()
	for _, c := range left {
		select {
		case <-c.final:
		case <-ctx.Done():
			return
		}
	}
}

// CancelPeer asks the whole program to end and waits for the acknowledgement. Supervisors only.
func (s *Session) CancelPeer(ctx context.Context, c *Cancelled, grace time.Duration) error {
	if err := s.w.answer(&message{kind: cancel, by: c.By, reason: c.Reason, left: millis(grace)}); err != nil {
		return err
	}
	select {
	case <-s.acked:
		return nil
	case <-s.done:
		return lost(s.Err())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ping waits until the other side's dispatcher has answered.
func (s *Session) Ping(ctx context.Context) error {
	s.mu.Lock()
	s.number++
	n, back := s.number, make(chan struct{})
	s.pings[n] = back
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.pings, n)
		s.mu.Unlock()
	}()
	if err := s.w.send(ctx, &message{kind: ping, n: n}); err != nil {
		return err
	}
	select {
	case <-back:
		return nil
	case <-s.done:
		return lost(s.Err())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dispatch handles one message. An error ends the session.
func (s *Session) dispatch(m *message) error {
	switch m.kind {
	case start:
		return s.serve(m)
	case ping:
		return s.w.answer(&message{kind: pong, n: m.n})
	case pong:
		s.mu.Lock()
		defer s.mu.Unlock()
		if back := s.pings[m.n]; back != nil {
			close(back)
			delete(s.pings, m.n)
		}
		return nil
	case exit:
		return s.peerExits()
	}
	if m.cid == 0 {
		return s.whole(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[m.cid]
	if c == nil {
		if s.ours(m.cid) && m.cid < s.next || !s.ours(m.cid) && m.cid <= s.seen {
			return nil // it has ended, and this crossed its end
		}
		return violation("%v for call %d, which nobody opened", m.kind, m.cid)
	}
	return c.receiveLocked(m)
}

// ours tells by a call's number who opened it.
func (s *Session) ours(cid uint64) bool { return cid%2 == 0 == s.o.host }

func (s *Session) peerExits() error {
	if !s.o.host {
		return violation("EXIT by the supervisor")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exited = true
	return nil
}

// whole handles what concerns the session, not a call.
func (s *Session) whole(m *message) error {
	switch {
	case m.kind == fail:
		return m.err
	case m.kind == cancel && !s.o.host:
		s.mu.Lock()
		first := !s.asked
		s.asked = true
		s.mu.Unlock()
		state := uint64(1)
		if first {
			state = 0
		}
		if err := s.w.answer(&message{kind: cancelAck, n: state}); err != nil {
			return err
		}
		if first && s.o.Cancelled != nil {
			go s.o.Cancelled(&Cancelled{m.by, m.reason}, duration(m.left))
		}
		return nil
	case m.kind == cancelAck && s.o.host:
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-s.acked:
		default:
			close(s.acked)
		}
		return nil
	}
	return violation("%v without a call", m.kind)
}
