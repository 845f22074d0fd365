package session

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"sandboxd/ipc/codec"
	"sandboxd/ipc/wire"
)

// registered is an error, or a type of errors, that is known by a name on both sides.
type registered struct {
	name  string
	value error        // of RegisterError
	typ   reflect.Type // of RegisterErrorType
}

// registry is what was registered, in that order: an error that is several of them crosses as the first.
var registry struct {
	sync.RWMutex
	all []registered
}

// RegisterError lets errors.Is find err in another process, which registers its
// own by the same name. A name that is taken panics, as does one of the protocol's.
func RegisterError(name string, err error) {
	register(registered{name: name, value: err})
}

// RegisterErrorType lets errors.As find errors of type T in another process,
// with their exported fields; T is a struct, or a pointer to one, that codec can encode.
func RegisterErrorType[T error](name string) {
	t := reflect.TypeFor[T]()
	if s := t; s.Kind() != reflect.Struct && (s.Kind() != reflect.Pointer || s.Elem().Kind() != reflect.Struct) {
		panic(fmt.Sprintf("session: error type %v: want a struct, or a pointer to one", t))
	}
	register(registered{name: name, typ: t})
}

func register(r registered) {
	registry.Lock()
	defer registry.Unlock()
	if r.name == "" || len(r.name) > maxName || strings.HasPrefix(r.name, "sandboxd.") {
		panic(fmt.Sprintf("session: error name %q: want 1 to %d bytes that do not begin with sandboxd.", r.name, maxName))
	}
	if _, taken := lookLocked(r.name); taken {
		panic(fmt.Sprintf("session: error name %q is registered already", r.name))
	}
	registry.all = append(registry.all, r)
}

func lookLocked(name string) (registered, bool) {
	for _, r := range registry.all {
		if r.name == name {
			return r, true
		}
	}
	return registered{}, false
}

// typeOf is the name by which err crosses, and its fields.
func typeOf(err error) (string, codec.Raw) {
	registry.RLock()
	defer registry.RUnlock()
	for _, r := range registry.all {
		if r.value != nil && errors.Is(err, r.value) {
			return r.name, nil
		}
		if r.typ != nil {
			if target := reflect.New(r.typ); errors.As(err, target.Interface()) {
				return r.name, fields(target.Elem().Interface())
			}
		}
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.name, nil
		}
	}
	for { // what wraps it in words only is no type
		name := strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
		inner := errors.Unwrap(err)
		if name != "fmt.wrapError" || inner == nil {
			return name, nil
		}
		err = inner
	}
}

// maxData is how many values an error's fields may be; with what lies around them in a frame, at every relay.
const maxData = 1 << 14

// fields encodes what a registered type has; nil if it cannot be.
func fields(err any) codec.Raw {
	data, cerr := codec.Marshal(err)
	if cerr != nil || wire.Check(data, wire.Limits{Depth: wire.DefaultDepth - 2, Items: maxData}) != nil {
		return nil
	}
	return data
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
	r, _ := lookLocked(e.Type)
	registry.RUnlock()
	if r.value != nil {
		e.revived = r.value
		return
	}
	if r.typ == nil || e.Data == nil {
		return
	}
	target := reflect.New(r.typ)
	if codec.Unmarshal(e.Data, target.Interface()) != nil {
		return
	}
	if v := target.Elem(); v.Kind() != reflect.Pointer || !v.IsNil() {
		e.revived, _ = reflect.TypeAssert[error](v)
	}
}
