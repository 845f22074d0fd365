package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sandboxd/ipc/codec"
	"sandboxd/ipc/wire"
)

// RemoteError is an error that happened in another actor. errors.Is finds the
// sentinels of this package and those registered, errors.As the registered types.
type RemoteError struct {
	Type      string // at its source, such as "ValueError"
	Message   string
	Stack     string // for people; "": none
	Source    Ref    // where it happened
	Relay     []Ref  // who passed it on, nearest to the source first
	Canceller Ref    // who cancelled, where that is why; else zero
	Data      codec.Raw

	revived error
}

func (e *RemoteError) Error() string {
	var b strings.Builder
	if e.Source != (Ref{}) {
		fmt.Fprintf(&b, "%v: ", e.Source)
	}
	b.WriteString(e.Type)
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Canceller != (Ref{}) {
		fmt.Fprintf(&b, " (cancelled by %v)", e.Canceller)
	}
	for i, r := range e.Relay {
		b.WriteString([]string{", passed on by ", ", "}[min(i, 1)] + r.String())
	}
	return b.String()
}

// Unwrap is the error as it was at its source, where its type is known here.
func (e *RemoteError) Unwrap() error { return e.revived }

// Pack makes an error ready to cross. One that has come from another actor
// keeps all that it says, and is marked as passed on by self.
func Pack(err error, self Ref) *RemoteError {
	if r, ok := errors.AsType[*RemoteError](err); ok {
		relayed := *r
		if self != (Ref{}) && len(r.Relay) < maxRelay {
			relayed.Relay = append(slices.Clip(r.Relay), self)
		}
		return &relayed
	}
	e := &RemoteError{Message: clip(err.Error(), maxMessage), Source: self}
	if c, ok := errors.AsType[*Cancelled](err); ok {
		e.Canceller = c.By
	}
	if p, ok := errors.AsType[*panicError](err); ok {
		e.Stack = clip(p.stack, maxStack)
	}
	e.Type, e.Data = typeOf(err)
	return e
}

// fit is e as it can be sent in a frame of most bytes: what a receiver would
// refuse, and end the session for, is left out, beginning with what matters least.
func fit(e *RemoteError, most int) *RemoteError {
	for step := 0; ; step++ {
		m := message{kind: fail, cid: maxNumber, err: e}
		b := m.append(nil)
		if len(b) <= most && wire.Check(b, wire.Limits{}) == nil || step > 2 {
			return e
		}
		smaller := *e
		switch step {
		case 0:
			smaller.Data = nil
		case 1:
			smaller.Stack = ""
		case 2:
			smaller.Message, smaller.Relay = clip(e.Message, 512), nil
		}
		e = &smaller
	}
}

func (e *RemoteError) append(b []byte) []byte {
	b = wire.AppendArrayHead(b, 7)
	b = wire.AppendStr(b, clip(e.Type, maxName))
	b = wire.AppendStr(b, clip(e.Message, maxMessage))
	b = wire.AppendStr(b, clip(e.Stack, maxStack))
	b = appendRef(b, e.Source)
	b = wire.AppendArrayHead(b, min(len(e.Relay), maxRelay))
	for _, r := range e.Relay[:min(len(e.Relay), maxRelay)] {
		b = appendRef(b, r)
	}
	if e.Canceller == (Ref{}) {
		b = wire.AppendNil(b)
	} else {
		b = appendRef(b, e.Canceller)
	}
	if e.Data == nil {
		return wire.AppendNil(b)
	}
	return append(b, e.Data...)
}

func scanError(s *wire.Scanner) *RemoteError {
	if n := s.Array(); s.Err() == nil && n != 7 {
		s.Fail(fmt.Errorf("an error has 7 elements, not %d", n))
		return nil
	}
	e := &RemoteError{Type: s.Str(maxName), Message: s.Str(maxMessage), Stack: s.Str(maxStack), Source: scanRef(s)}
	n := s.Array()
	if n > maxRelay {
		s.Fail(fmt.Errorf("%d relays, at most %d", n, maxRelay))
	}
	for i := 0; i < n && s.Err() == nil; i++ {
		e.Relay = append(e.Relay, scanRef(s))
	}
	if !s.Nil() {
		e.Canceller = scanRef(s)
	}
	if !s.Nil() {
		e.Data = append(codec.Raw{}, s.Raw()...)
	}
	e.revive()
	return e
}

// panicError is a handler's panic.
type panicError struct {
	value any
	stack string
}

func (p *panicError) Error() string { return fmt.Sprint(p.value) }
func (p *panicError) Unwrap() error { return ErrPanic }
