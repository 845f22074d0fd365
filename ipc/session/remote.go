package session

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

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

// registry is what RegisterError and RegisterErrorType were told.
var registry = struct {
	sync.RWMutex
	values map[string]error
	types  map[string]reflect.Type
	names  map[reflect.Type]string
}{values: map[string]error{}, types: map[string]reflect.Type{}, names: map[reflect.Type]string{}}

// RegisterError lets errors.Is find err in another process, which registers its
// own by the same name. A name that is taken panics, as does one of the protocol's.
func RegisterError(name string, err error) {
	registry.Lock()
	defer registry.Unlock()
	claim(name)
	registry.values[name] = err
}

// RegisterErrorType lets errors.As find errors of type T in another process,
// with their exported fields; T is a struct, or a pointer to one, that codec can encode.
func RegisterErrorType[T error](name string) {
	registry.Lock()
	defer registry.Unlock()
	claim(name)
	t := reflect.TypeFor[T]()
	registry.types[name], registry.names[t] = t, name
}

// claim panics where the name is taken. Precondition: the registry is locked.
func claim(name string) {
	switch {
	case name == "" || len(name) > maxName || strings.HasPrefix(name, "sandboxd."):
		panic(fmt.Sprintf("session: error name %q: want 1 to %d bytes that do not begin with sandboxd.", name, maxName))
	case registry.values[name] != nil || registry.types[name] != nil:
		panic(fmt.Sprintf("session: error name %q is registered already", name))
	}
}

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

// typeOf is the name by which err crosses, and its fields.
func typeOf(err error) (string, codec.Raw) {
	registry.RLock()
	defer registry.RUnlock()
	for name, v := range registry.values {
		if errors.Is(err, v) {
			return name, nil
		}
	}
	for t, name := range registry.names {
		target := reflect.New(t)
		if errors.As(err, target.Interface()) {
			if data, derr := codec.Marshal(target.Elem().Interface()); derr == nil {
				return name, data
			}
			return name, nil
		}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.name, nil
		}
	}
	return clip(fmt.Sprintf("%T", err), maxName), nil
}

// revive finds what e was at its source. An actor may claim any type: what is
// revived says no more than that, and its fields are as hostile as a payload.
func (e *RemoteError) revive() {
	for _, s := range sentinels {
		if s.name == e.Type {
			e.revived = s.err
			return
		}
	}
	registry.RLock()
	defer registry.RUnlock()
	if v := registry.values[e.Type]; v != nil {
		e.revived = v
		return
	}
	if t := registry.types[e.Type]; t != nil {
		target := reflect.New(t)
		if e.Data == nil || codec.Unmarshal(e.Data, target.Interface()) != nil {
			return
		}
		if err, ok := target.Elem().Interface().(error); ok && !reflect.ValueOf(err).IsZero() {
			e.revived = err
		}
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
