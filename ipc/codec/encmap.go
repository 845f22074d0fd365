package codec

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"

	"sandboxd/ipc/wire"
)

// mapKey is a key of a map in a form that sorts: of a string or text, or of a
// number, the other part being zero.
type mapKey struct {
	text   string
	number uint64 // a signed one with its sign turned over
}

const signBit = 1 << 63

type entry struct {
	mapKey
	value reflect.Value
}

func (e *encoder) mapping(p *plan, v reflect.Value) *TypeError {
	if v.IsNil() {
		e.b = wire.AppendNil(e.b)
		return nil
	}
	n := v.Len()
	if err := e.enter(p, 2*n); err != nil {
		return err
	}
	all := make([]entry, 0, n)
	for it := v.MapRange(); it.Next(); {
		k, err := keyOf(p.key, it.Key())
		if err != nil {
			err.Got = "key " + err.Got
			return err
		}
		all = append(all, entry{k, it.Value()})
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.text, b.text), cmp.Compare(a.number, b.number))
	})
	e.b = wire.AppendMapHead(e.b, n)
	for i := range all {
		k := &all[i]
		if i > 0 && k.mapKey == all[i-1].mapKey { // of two values with the same text
			return &TypeError{Got: "second key " + k.label(p.key), Want: p.name}
		}
		e.key(p.key, k.mapKey)
		if err := e.value(p.elem, k.value); err != nil {
			return err.in("[" + k.label(p.key) + "]")
		}
	}
	e.depth--
	return nil
}

func keyOf(p *plan, k reflect.Value) (mapKey, *TypeError) {
	switch {
	case p.marshal:
		text, err := textOf(p, k)
		return mapKey{text: text}, err
	case p.op == opString:
		return mapKey{text: k.String()}, checkText(k.String())
	case p.op == opInt:
		return mapKey{number: uint64(k.Int()) ^ signBit}, nil
	}
	return mapKey{number: k.Uint()}, nil
}

func (e *encoder) key(p *plan, k mapKey) {
	switch {
	case p.marshal || p.op == opString:
		e.b = wire.AppendStr(e.b, k.text)
	case p.op == opInt:
		e.b = wire.AppendInt(e.b, int64(k.number^signBit))
	default:
		e.b = wire.AppendUint(e.b, k.number)
	}
}

// label is the key as it is in a path.
func (k mapKey) label(p *plan) string {
	switch {
	case p.marshal || p.op == opString:
		return quote(k.text)
	case p.op == opInt:
		return strconv.FormatInt(int64(k.number^signBit), 10)
	}
	return strconv.FormatUint(k.number, 10)
}
