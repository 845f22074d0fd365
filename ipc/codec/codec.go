package codec

import (
	"fmt"
	"reflect"

	"sandboxd/ipc/wire"
)

// MaxMemory bounds, in bytes, the slices, maps and pointers that one Unmarshal
// makes, beside the strings and bins that came. Elements take a byte or more
// each on the wire, but as much as their type in memory.
const MaxMemory = 16 << 20

// Raw is one encoded value, kept as it is. nil stands for the value nil when it
// is encoded, and is what a field has that did not come; a nil that came is one
// byte.
type Raw []byte

// Lent is a bin that Adopt leaves where it came: part of the message, which is
// why how long it may be used is for whoever decodes to say. Elsewhere it is a []byte.
type Lent []byte

// Marshal returns v in its shortest form. Equal values give equal bytes.
func Marshal(v any) ([]byte, error) {
	b, err := Append(make([]byte, 0, 64), v)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Append adds v to b. After an error, a *TypeError, it returns b as it was.
func Append(b []byte, v any) ([]byte, error) {
	e := encoder{b: b, items: 1}
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return wire.AppendNil(b), nil
	}
	if err := e.value(planOf(rv.Type()), rv); err != nil {
		return b, err
	}
	if e.raw { // its parts are sound; are they together?
		if err := wire.Check(e.b[len(b):], wire.Limits{}); err != nil {
			return b, &TypeError{Got: "value with what its Raws hold", Want: "the limits", err: err}
		}
	}
	return e.b, nil
}

// Unmarshal decodes the one value in raw into what v points to, which is set to
// its zero value first, but a bin goes into the memory that a slice of bytes has
// already. After an error it is zero again. Nothing of raw is kept.
//
// The error is a *TypeError, or wraps one of package wire.
func Unmarshal(raw []byte, v any) error {
	d := decoder{Scanner: wire.NewScanner(raw), memory: MaxMemory}
	return d.all(raw, v)
}

// Adopt is Unmarshal for a caller that does not need raw any more. lent tells
// whether there is a Lent in v: it is part of raw, which must stay as it is.
func Adopt(raw []byte, v any) (lent bool, err error) {
	d := decoder{Scanner: wire.NewScanner(raw), memory: MaxMemory, lends: true}
	err = d.all(raw, v)
	return d.lent, err
}

func (d *decoder) all(raw []byte, v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("codec: cannot decode into %T: pass a pointer that is not nil: %w", v, ErrType)
	}
	rv = rv.Elem()
	p := planOf(rv.Type())
	if p.op == opBytes && rv.Cap() > 0 {
		d.into = rv.Bytes()[:0]
	}
	rv.SetZero()
	if p.stuck != nil {
		err := *p.stuck
		return &err
	}
	if err := wire.Check(raw, wire.Limits{}); err != nil {
		return fmt.Errorf("codec: %w", err)
	}
	if err := d.value(p, rv); err != nil {
		rv.SetZero()
		return err
	}
	return nil
}
