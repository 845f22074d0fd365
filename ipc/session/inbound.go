package session

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Mux is what one side serves: verbs and their functions. The zero value serves
// nothing; nil does as well. Verbs may be added until the session begins.
type Mux struct {
	mu    sync.RWMutex
	verbs map[string]served
	names []string
}

type served struct {
	mode Mode
	f    func(context.Context, *Inbound) ([]byte, error)
}

// Add serves verb by f, whose value is an encoded one. A verb that is taken panics, as in http.ServeMux.
func (m *Mux) Add(verb string, mode Mode, f func(context.Context, *Inbound) ([]byte, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case verb == "" || len(verb) > maxName:
		panic(fmt.Sprintf("session: verb %q: want 1 to %d bytes", verb, maxName))
	case m.verbs[verb].f != nil:
		panic(fmt.Sprintf("session: verb %q is served already", verb))
	case len(m.names) == maxVerbs:
		panic(fmt.Sprintf("session: more than %d verbs", maxVerbs))
	}
	if m.verbs == nil {
		m.verbs = map[string]served{}
	}
	m.verbs[verb] = served{mode, f}
	m.names = append(m.names, verb)
}

// Merge is a Mux with the verbs of all of those given; nil ones are fine, and the first to name a verb has it.
func Merge(all ...*Mux) *Mux {
	m := &Mux{verbs: map[string]served{}}
	for _, other := range all {
		for _, verb := range other.Verbs() {
			if _, taken := m.verbs[verb]; !taken {
				m.verbs[verb] = other.find(verb)
				m.names = append(m.names, verb)
			}
		}
	}
	return m
}

// Verbs are the names of what is served, in the order of Add.
func (m *Mux) Verbs() []string {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]string(nil), m.names...)
}

func (m *Mux) find(verb string) served {
	if m == nil {
		return served{}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.verbs[verb]
}

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

// serve begins a call of the other side.
func (s *Session) serve(m *message) error {
	v := s.o.Mux.find(m.verb)
	held := int64(len(m.payload))
	if m.mode == Dialog {
		held += int64(s.o.Window) + int64(s.l.cap)
	}
	s.mu.Lock()
	if s.ours(m.cid) || m.cid <= s.seen {
		s.mu.Unlock()
		return violation("START of call %d after %d", m.cid, s.seen)
	}
	s.seen = m.cid
	var refused error
	switch {
	case v.f == nil:
		refused = fmt.Errorf("%w: %q", ErrUnknownVerb, m.verb)
	case v.mode != m.mode:
		refused = fmt.Errorf("%w: %q", ErrWrongMode, m.verb)
	case s.drains:
		refused = fmt.Errorf("%w: it ends", ErrBusy)
	case s.theirs >= s.o.Calls, s.held+held > s.o.Budget && s.theirs > 0:
		refused = fmt.Errorf("%w: %d are open, with %d bytes", ErrBusy, s.theirs, s.held)
	}
	if refused != nil {
		s.mu.Unlock()
		return s.w.answer(&message{kind: fail, cid: m.cid, err: Pack(refused, s.o.Self)})
	}
	c := &call{s: s, cid: m.cid, verb: m.verb, mode: m.mode, since: time.Now(), payload: m.payload, headers: m.headers, held: held, final: make(chan struct{})}
	c.credit, c.window = int64(m.n), int64(s.o.Window)
	c.room = c.window
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	s.calls[c.cid] = c
	s.theirs++
	s.held += held
	s.mu.Unlock()
	go c.run(v.f, duration(m.left))
	return nil
}

// run calls the function and answers.
func (c *call) run(f func(context.Context, *Inbound) ([]byte, error), left time.Duration) {
	in := &Inbound{c}
	ctx := c.ctx
	if left > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, left)
		defer stop()
		timed := ctx
		defer context.AfterFunc(timed, func() { // also where f does not look at its context
			if errors.Is(timed.Err(), context.DeadlineExceeded) {
				c.answer(nil, context.DeadlineExceeded)
			}
		})()
	}
	if c.s.o.Context != nil {
		ctx = c.s.o.Context(ctx, in)
	}
	if c.mode == Dialog {
		c.s.mu.Lock()
		c.accepted = true
		c.s.mu.Unlock()
		if c.s.w.send(ctx, &message{kind: startAck, cid: c.cid, n: uint64(c.window)}) != nil {
			c.answer(nil, context.Cause(ctx))
			return
		}
	}
	result, err := c.guarded(ctx, in, f)
	if err != nil && errors.Is(err, context.Canceled) {
		if who, ok := errors.AsType[*Cancelled](context.Cause(ctx)); ok {
			if _, remote := errors.AsType[*RemoteError](err); !remote {
				err = who // so that the canceller is told
			}
		}
	}
	c.answer(result, err)
}

// guarded turns a panic into an error: it must not take the others' calls along.
func (c *call) guarded(ctx context.Context, in *Inbound, f func(context.Context, *Inbound) ([]byte, error)) (result []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, string(debug.Stack())}
		}
	}()
	return f(ctx, in)
}

// answer ends a call of the other side, unless it has ended.
func (c *call) answer(result []byte, err error) {
	m := message{kind: giveBack, cid: c.cid, payload: result}
	if err != nil {
		m = message{kind: fail, cid: c.cid, err: Pack(err, c.s.o.Self)}
	}
	c.s.mu.Lock()
	if c.ended {
		c.s.mu.Unlock()
		return
	}
	c.finishLocked(nil, err)
	write, werr := c.s.w.put(&m)
	if errors.Is(werr, ErrTooLarge) {
		m = message{kind: fail, cid: c.cid, err: Pack(fmt.Errorf("result of %s: %w", c.verb, werr), c.s.o.Self)}
		write, _ = c.s.w.put(&m)
	}
	c.s.mu.Unlock()
	if write {
		_ = c.s.w.write()
	}
}
