package session

import (
	"context"
	"errors"
	"time"
)

// Close ends the session at once. Of a program, Exit is the polite way.
func (s *Session) Close() error {
	s.end(ErrExited)
	return nil
}

// Exit says that the program ends, and closes when that has been written or ctx
// ends. Nothing is sent after it. A supervisor's only closes.
func (s *Session) Exit(ctx context.Context) error {
	if s.o.host {
		return s.Close()
	}
	err := s.w.answer(&message{kind: exit})
	if err == nil && s.w.flushed(ctx) != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // any other reason is that the other side has closed, which it does when it has heard
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
	if !s.o.host {
		return errors.New("session: only a supervisor cancels its peer")
	}
	s.mu.Lock()
	write, err := s.w.put(&message{kind: cancel, by: c.By, reason: c.Reason, left: millis(grace)})
	if err == nil {
		s.asked++
	}
	s.mu.Unlock()
	if write {
		s.w.write()
	}
	if err != nil {
		return err
	}
	return s.waitFor(ctx, s.acked)
}

// waitFor waits until answered is closed; the session's end and ctx are why it is not.
func (s *Session) waitFor(ctx context.Context, answered <-chan struct{}) error {
	err := s.wait(ctx, answered)
	select {
	case <-answered:
		return nil
	default:
	}
	if err == nil {
		err = lost(s.Err())
	}
	return err
}
