package codec

import (
	"encoding"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"sandboxd/ipc/wire"
)

// encoder adds to b what Unmarshal will take.
type encoder struct {
	b     []byte
	items int  // values so far, and those that are certain to follow
	depth int  // containers around
	held  int  // interfaces around
	raw   bool // there is a Raw, which may hold more than was counted
}

// maxHeld bounds interfaces within each other: one that holds a pointer to
// itself never reaches a container.
const maxHeld = 2*wire.DefaultDepth + 1

func (e *encoder) value(p *plan, v reflect.Value) *TypeError {
	if p.marshal {
		text, err := textOf(p, v)
		if err == nil {
			e.b = wire.AppendStr(e.b, text)
		}
		return err
	}
	switch p.op {
	case opBool:
		e.b = wire.AppendBool(e.b, v.Bool())
	case opInt:
		e.b = wire.AppendInt(e.b, v.Int())
	case opUint:
		e.b = wire.AppendUint(e.b, v.Uint())
	case opFloat:
		if v.Kind() == reflect.Float32 {
			e.b = wire.AppendFloat32(e.b, float32(v.Float()))
		} else {
			e.b = wire.AppendFloat64(e.b, v.Float())
		}
	case opString:
		s := v.String()
		if err := checkText(s); err != nil {
			return err
		}
		e.b = wire.AppendStr(e.b, s)
	case opBytes, opByteArray:
		return e.bytes(p, v)
	case opSlice, opArray:
		return e.list(p, v)
	case opMap:
		return e.mapping(p, v)
	case opStruct:
		return e.structure(p, v)
	case opPointer:
		if v.IsNil() {
			e.b = wire.AppendNil(e.b)
			return nil
		}
		return e.value(p.elem, v.Elem())
	case opInterface:
		return e.holder(p, v)
	case opTime:
		return e.time(v)
	case opRaw:
		return e.rawValue(v.Bytes())
	default:
		return &TypeError{Got: p.name, Want: "msgpack (" + p.why + ")"}
	}
	return nil
}

func checkText(s string) *TypeError {
	switch {
	case !utf8.ValidString(s):
		return &TypeError{Got: "string that is not UTF-8", Want: "a str (use []byte)"}
	case len(s) > math.MaxUint32:
		return &TypeError{Got: "string of " + strconv.Itoa(len(s)) + " bytes", Want: "a str"}
	}
	return nil
}

// addressable returns v, or a copy that has an address.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

// textOf is what the MarshalText of v says. The method may be the pointer's.
func textOf(p *plan, v reflect.Value) (string, *TypeError) {
	b, err := addressable(v).Addr().Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return "", &TypeError{Got: p.name, Want: "a str", err: err}
	}
	return string(b), checkText(string(b))
}

func (e *encoder) bytes(p *plan, v reflect.Value) *TypeError {
	if p.op == opBytes && v.IsNil() {
		e.b = wire.AppendNil(e.b)
		return nil
	}
	if p.op == opByteArray {
		v = addressable(v)
	}
	b := v.Bytes()
	if len(b) > math.MaxUint32 {
		return &TypeError{Got: "slice of " + strconv.Itoa(len(b)) + " bytes", Want: "a bin"}
	}
	e.b = wire.AppendBytes(e.b, b)
	return nil
}

func (e *encoder) holder(p *plan, v reflect.Value) *TypeError {
	if v.IsNil() {
		e.b = wire.AppendNil(e.b)
		return nil
	}
	if e.held == maxHeld {
		return &TypeError{Got: p.name, Want: strconv.Itoa(maxHeld) + " interfaces within each other", err: wire.ErrDepth}
	}
	e.held++
	v = v.Elem()
	err := e.value(planOf(v.Type()), v)
	e.held--
	return err
}

func (e *encoder) time(v reflect.Value) *TypeError {
	t := *addressable(v).Addr().Interface().(*time.Time)
	if sec := t.Unix(); sec < wire.MinTime || sec > wire.MaxTime {
		return &TypeError{Got: "time of the year " + strconv.Itoa(t.UTC().Year()), Want: "a timestamp (years 1 to 9999)"}
	}
	e.b = wire.AppendTime(e.b, t)
	return nil
}

func (e *encoder) rawValue(raw Raw) *TypeError {
	if raw == nil {
		e.b = wire.AppendNil(e.b)
		return nil
	}
	if err := wire.Check(raw, wire.Limits{}); err != nil {
		return &TypeError{Got: "Raw of " + strconv.Itoa(len(raw)) + " bytes", Want: "one value", err: err}
	}
	e.raw = true
	e.b = append(e.b, raw...)
	return nil
}
