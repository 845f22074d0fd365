package codec

import (
	"encoding"
	"reflect"
	"sync"
	"time"
)

// op is how values of a type are encoded and decoded.
type op uint8

const (
	opRefuse op = iota
	opBool
	opInt
	opUint
	opFloat
	opString
	opBytes     // slice of bytes
	opByteArray // array of bytes
	opSlice
	opArray
	opMap
	opStruct
	opPointer
	opInterface
	opTime
	opRaw
)

// plan is what is known of a type, worked out once.
type plan struct {
	op   op
	typ  reflect.Type
	name string // of the type, for errors
	why  string // opRefuse: what is wrong with it, and the way out

	// Text methods replace op in the direction that has them; what the pointer
	// has counts, too.
	marshal, unmarshal bool

	elem *plan // of slice, array, map, pointer
	key  *plan // of a map: opInt, opUint, opString or text

	stuck *TypeError // why nothing can be decoded into the type, or nil

	fields []field // of a struct
	byName map[string]int
	omits  bool // a field has omitempty
}

var plans sync.Map // reflect.Type → *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	b := builder{}
	b.plan(t)
	for _, p := range b {
		p.stuck = p.undecodable(map[*plan]bool{})
	}
	for t, p := range b { // complete now; another goroutine's are as good
		plans.LoadOrStore(t, p)
	}
	return b[t]
}

// builder holds the plans of types that refer to each other until all are made.
type builder map[reflect.Type]*plan

var (
	timeType    = reflect.TypeFor[time.Time]()
	rawType     = reflect.TypeFor[Raw]()
	lentType    = reflect.TypeFor[Lent]()
	marshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	unmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (b builder) plan(t reflect.Type) *plan {
	if p := b[t]; p != nil {
		return p
	}
	p := &plan{typ: t, name: t.String()}
	b[t] = p
	switch {
	case t == timeType:
		p.op = opTime
		return p
	case t == rawType:
		p.op = opRaw
		return p
	}
	if k := t.Kind(); k != reflect.Pointer && k != reflect.Interface {
		p.marshal = reflect.PointerTo(t).Implements(marshaler)
		p.unmarshal = reflect.PointerTo(t).Implements(unmarshaler)
	}
	if !p.marshal || !p.unmarshal {
		b.kind(p)
	}
	return p
}

// kind fills in what the type's kind says.
func (b builder) kind(p *plan) {
	t := p.typ
	switch t.Kind() {
	case reflect.Bool:
		p.op = opBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.op = opInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		p.op = opUint
	case reflect.Float32, reflect.Float64:
		p.op = opFloat
	case reflect.String:
		p.op = opString
	case reflect.Slice, reflect.Array:
		b.list(p)
	case reflect.Map:
		b.mapping(p)
	case reflect.Struct:
		b.structure(p)
	case reflect.Interface:
		p.op, p.why = opInterface, "take it as codec.Raw, and decode that once its type is known"
	case reflect.Pointer:
		p.op, p.elem = opPointer, b.plan(t.Elem())
		if t.Elem().Kind() == reflect.Pointer {
			p.op, p.why = opRefuse, "which of two pointers is nil cannot be told: use one"
		}
	default:
		p.why = "it has no msgpack form: leave it out with the tag \"-\""
	}
}

func (b builder) list(p *plan) {
	p.elem = b.plan(p.typ.Elem())
	list, bytes := opSlice, opBytes
	if p.typ.Kind() == reflect.Array {
		list, bytes = opArray, opByteArray
	}
	p.op = list
	if p.typ.Elem().Kind() == reflect.Uint8 && !p.elem.marshal && !p.elem.unmarshal {
		p.op = bytes
	}
}

func (b builder) mapping(p *plan) {
	p.op, p.key, p.elem = opMap, b.plan(p.typ.Key()), b.plan(p.typ.Elem())
	switch k := p.key; {
	case k.marshal && k.unmarshal:
	case k.marshal || k.unmarshal:
		p.op, p.why = opRefuse, "its keys are text in one direction only"
	case k.op != opString && k.op != opInt && k.op != opUint:
		p.op, p.why = opRefuse, "keys are strings, integers or text"
	}
}

// undecodable looks for a part that could not be decoded if it came, so that a
// type is refused when it is first used and not when a peer thinks of that part.
func (p *plan) undecodable(seen map[*plan]bool) *TypeError {
	if seen[p] || p.unmarshal {
		return nil
	}
	seen[p] = true
	switch p.op {
	case opRefuse, opInterface:
		return &TypeError{Got: "a value", Want: p.name + " (" + p.why + ")"}
	case opPointer:
		return p.elem.undecodable(seen)
	case opSlice, opArray, opMap:
		return p.elem.undecodable(seen).in("[]")
	case opStruct:
		for i := range p.fields {
			if err := p.fields[i].plan.undecodable(seen); err != nil {
				return err.in("." + p.fields[i].name)
			}
		}
	}
	return nil
}
