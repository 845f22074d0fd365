package session

import "context"

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
	if err := s.w.answer(&message{kind: ping, n: n}); err != nil {
		return err
	}
	return s.waitFor(ctx, back)
}

// dispatch handles one message; what it starts the caller is to run. An error ends the session.
func (s *Session) dispatch(m *message) (*call, error) {
	switch {
	case m.kind == start:
		return s.serve(m)
	case m.kind == ping:
		return nil, s.w.answer(&message{kind: pong, n: m.n})
	case m.kind == pong:
		return nil, s.pong(m.n)
	case m.kind == exit && s.o.host:
		return nil, ErrExited
	case m.kind == exit:
		return nil, violation("EXIT by the supervisor")
	case m.cid == 0:
		return nil, s.whole(m)
	}
	return nil, s.ofCall(m)
}

func (s *Session) ofCall(m *message) error {
	s.mu.Lock()
	c := s.calls[m.cid]
	if c == nil {
		opened := s.ours(m.cid) && m.cid < s.next || !s.ours(m.cid) && m.cid <= s.seen
		s.mu.Unlock()
		if opened {
			return nil // it has ended, and this crossed its end
		}
		return violation("%v for call %d, which nobody opened", m.kind, m.cid)
	}
	write, err := c.receiveLocked(m)
	s.unlock()
	if write {
		s.w.write()
	}
	return err
}

func (s *Session) pong(n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 || n > s.number {
		return violation("PONG %d, of %d PINGs", n, s.number)
	}
	if back := s.pings[n]; back != nil {
		close(back)
		delete(s.pings, n)
	}
	return nil
}

// ours tells by a call's number who opened it.
func (s *Session) ours(cid uint64) bool { return cid%2 == 0 == s.o.host }

// whole handles what concerns the session, not a call.
func (s *Session) whole(m *message) error {
	switch {
	case m.kind == fail:
		s.believe(m.err)
		return m.err
	case m.kind == cancel && !s.o.host:
		s.mu.Lock()
		first := s.asked == 0
		s.asked++
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
		if s.asked--; s.asked < 0 {
			return violation("CANCELACK without CANCEL")
		}
		select {
		case <-s.acked:
		default:
			close(s.acked)
		}
		return nil
	}
	return violation("%v without a call", m.kind)
}

// believe corrects what a program claims of where an error came from: from
// itself, or from further on and then through it.
func (s *Session) believe(e *RemoteError) {
	switch n := len(e.Relay); {
	case !s.o.host:
	case n == 0:
		e.Source = s.o.Peer
	default:
		e.Relay[n-1] = s.o.Peer
	}
}
