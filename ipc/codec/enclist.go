package codec

import (
	"reflect"
	"strconv"

	"sandboxd/ipc/wire"
)

// enter counts a container of so many values; leave it by e.depth--.
func (e *encoder) enter(p *plan, values int) *TypeError {
	if e.depth == wire.DefaultDepth {
		return &TypeError{Got: p.name, Want: strconv.Itoa(wire.DefaultDepth) + " levels", err: wire.ErrDepth}
	}
	if e.items += values; e.items > wire.DefaultItems {
		return &TypeError{Got: p.name, Want: strconv.Itoa(wire.DefaultItems) + " values in all", err: wire.ErrItems}
	}
	e.depth++
	return nil
}

func (e *encoder) list(p *plan, v reflect.Value) *TypeError {
	if p.op == opSlice && v.IsNil() {
		e.b = wire.AppendNil(e.b)
		return nil
	}
	n := v.Len()
	if err := e.enter(p, n); err != nil {
		return err
	}
	e.b = wire.AppendArrayHead(e.b, n)
	for i := range n {
		if err := e.value(p.elem, v.Index(i)); err != nil {
			return err.at(i)
		}
	}
	e.depth--
	return nil
}

func (e *encoder) structure(p *plan, v reflect.Value) *TypeError {
	n := len(p.fields)
	if p.omits {
		n = 0
		for i := range p.fields {
			if f := &p.fields[i]; !f.omit || !empty(f.of(v)) {
				n++
			}
		}
	}
	if err := e.enter(p, 2*n); err != nil {
		return err
	}
	e.b = wire.AppendMapHead(e.b, n)
	for i := range p.fields {
		f := &p.fields[i]
		fv := f.of(v)
		if f.omit && empty(fv) {
			continue
		}
		e.b = append(e.b, f.key...)
		if err := e.value(f.plan, fv); err != nil {
			return err.in("." + f.name)
		}
	}
	e.depth--
	return nil
}

// empty says what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}
