package codec

import (
	"math"
	"reflect"
)

func (d *decoder) pointer(p *plan, v reflect.Value) *TypeError {
	if d.Nil() {
		return nil
	}
	if err := d.charge(&d.Scanner, p, 1, p.elem.typ.Size()); err != nil {
		return err
	}
	to := reflect.New(p.elem.typ)
	if err := d.value(p.elem, to.Elem()); err != nil {
		return err
	}
	v.Set(to)
	return nil
}

func (d *decoder) list(p *plan, v reflect.Value) *TypeError {
	if p.op == opSlice && d.Nil() {
		return nil
	}
	at := d.Scanner
	n := d.Array()
	switch {
	case d.Err() != nil || p.op == opArray && n != v.Len():
		return mismatch(at, p)
	case p.op == opSlice && n == 0:
		v.Set(reflect.MakeSlice(p.typ, 0, 0))
	case p.op == opSlice: // n elements are there, or Check would have said so
		if err := d.charge(&at, p, n, p.elem.typ.Size()); err != nil {
			return err
		}
		v.Grow(n)
		v.SetLen(n)
	}
	for i := range n {
		if err := d.value(p.elem, v.Index(i)); err != nil {
			return err.at(i)
		}
	}
	return nil
}

func (d *decoder) structure(p *plan, v reflect.Value) *TypeError {
	at := d.Scanner
	n := d.Map()
	if d.Err() != nil {
		return mismatch(at, p)
	}
	var few [4]uint64
	seen := few[:]
	if len(p.fields) > 64*len(few) {
		seen = make([]uint64, 1+len(p.fields)/64)
	}
	i := 0 // the field that comes next where the sender has the same order
	for range n {
		at := d.Scanner
		key := d.StrBytes(math.MaxInt)
		if d.Err() != nil {
			return &TypeError{Got: "key " + describe(at), Want: p.name}
		}
		if i >= len(p.fields) || string(key) != p.fields[i].name {
			known, ok := p.byName[string(key)]
			if !ok {
				return &TypeError{Got: "unknown field " + quote(string(key)), Want: p.name}
			}
			i = known
		}
		if bit := uint64(1) << (i % 64); seen[i/64]&bit == 0 {
			seen[i/64] |= bit
		} else {
			return &TypeError{Got: "second field " + quote(string(key)), Want: p.name}
		}
		f := &p.fields[i]
		if err := d.value(f.plan, f.of(v)); err != nil {
			return err.in("." + f.name)
		}
		i++
	}
	return nil
}

func (d *decoder) mapping(p *plan, v reflect.Value) *TypeError {
	if d.Nil() {
		return nil
	}
	at := d.Scanner
	n := d.Map()
	if d.Err() != nil {
		return mismatch(at, p)
	}
	// A map takes twice its pairs, and what it keeps about them.
	if err := d.charge(&at, p, n, 2*(p.key.typ.Size()+p.elem.typ.Size()+8)); err != nil {
		return err
	}
	v.Set(reflect.MakeMapWithSize(p.typ, n))
	key, elem := reflect.New(p.key.typ).Elem(), reflect.New(p.elem.typ).Elem()
	for i := range n {
		at := d.Scanner
		key.SetZero()
		elem.SetZero()
		if err := d.value(p.key, key); err != nil {
			err.Got = "key " + err.Got
			return err
		}
		if err := d.value(p.elem, elem); err != nil {
			return err.in("[" + label(at) + "]")
		}
		if v.SetMapIndex(key, elem); v.Len() == i {
			return &TypeError{Got: "second key " + label(at), Want: p.name}
		}
	}
	return nil
}
