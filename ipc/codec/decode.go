package codec

import (
	"encoding"
	"math"
	"reflect"
	"slices"
	"time"

	"sandboxd/ipc/wire"
)

// decoder reads a value that Check accepted, which bounds how deep the methods
// below recurse. The first error ends it, so nothing is put back.
type decoder struct {
	wire.Scanner
	memory uintptr // left of MaxMemory
	into   []byte  // memory for the bin that v is
	lends  bool    // a Lent stays where it is
	lent   bool    // one did
}

// value decodes into v, which can be set and holds its zero value.
func (d *decoder) value(p *plan, v reflect.Value) *TypeError {
	at := d.Scanner
	if p.unmarshal {
		return d.text(p, v)
	}
	switch p.op {
	case opBool:
		v.SetBool(d.Bool())
	case opInt:
		n := d.Int()
		if v.OverflowInt(n) {
			return mismatch(at, p)
		}
		v.SetInt(n)
	case opUint:
		n := d.Uint(math.MaxUint64)
		if v.OverflowUint(n) {
			return mismatch(at, p)
		}
		v.SetUint(n)
	case opFloat:
		f := d.Float()
		if v.OverflowFloat(f) || at.Peek() == wire.KindInt && v.Kind() == reflect.Float32 && float64(float32(f)) != f {
			return mismatch(at, p)
		}
		v.SetFloat(f)
	case opString:
		v.SetString(d.Str(math.MaxInt))
	case opBytes:
		if !d.Nil() {
			v.SetBytes(d.bin(p))
		}
	case opByteArray:
		if b := d.Bytes(math.MaxInt); copy(v.Bytes(), b) != len(b) || len(b) != v.Len() {
			return mismatch(at, p)
		}
	case opTime:
		*v.Addr().Interface().(*time.Time) = d.Time()
	case opRaw:
		v.SetBytes(append([]byte{}, d.Raw()...))
	case opSlice, opArray:
		return d.list(p, v)
	case opMap:
		return d.mapping(p, v)
	case opStruct:
		return d.structure(p, v)
	case opPointer:
		return d.pointer(p, v)
	}
	if d.Err() != nil {
		return mismatch(at, p)
	}
	return nil
}

// bin gives the value a bin to keep.
func (d *decoder) bin(p *plan) []byte {
	b := d.Bytes(math.MaxInt)
	switch {
	case d.lends && p.typ == lentType && b != nil:
		d.lent = true
		return slices.Clip(b)
	case d.into != nil:
		return append(d.into, b...)
	}
	return append([]byte{}, b...)
}

// charge takes n pieces of size bytes off what decoding may allocate.
func (d *decoder) charge(at *wire.Scanner, p *plan, n int, size uintptr) *TypeError {
	if uintptr(n) > 0 && size > d.memory/uintptr(n) {
		return &TypeError{Got: describe(*at), Want: "the memory that one message may take, as " + p.name}
	}
	d.memory -= uintptr(n) * size
	return nil
}

func (d *decoder) text(p *plan, v reflect.Value) *TypeError {
	at := d.Scanner
	text := d.StrBytes(math.MaxInt)
	if d.Err() != nil {
		return mismatch(at, p)
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(text); err != nil {
		return &TypeError{Got: quote(string(text)), Want: p.name, err: err}
	}
	return nil
}
