package codec

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"sandboxd/ipc/wire"
)

// field is one key of a struct's map.
type field struct {
	name  string
	key   []byte // name, encoded
	index []int  // as of reflect.Value.FieldByIndex, through embedded structs
	plan  *plan
	omit  bool
}

// of returns the field in v. Most fields are not embedded.
func (f *field) of(v reflect.Value) reflect.Value {
	if len(f.index) == 1 {
		return v.Field(f.index[0])
	}
	return v.FieldByIndex(f.index)
}

// structure fills in the fields of a struct, those of embedded structs where
// they are embedded.
func (b builder) structure(p *plan) {
	p.op, p.byName = opStruct, map[string]int{}
	if why := b.collect(p, p.typ, nil); why != "" {
		p.op, p.why = opRefuse, why
	}
}

// collect adds the fields of t, which lies at index of the struct of p, and
// returns why the struct cannot be encoded, if so.
func (b builder) collect(p *plan, t reflect.Type, index []int) (why string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, tagged := f.Tag.Lookup("msgpack")
		if name == "-" {
			continue
		}
		name, option, _ := strings.Cut(name, ",")
		if option != "" && option != "omitempty" {
			return "field " + f.Name + " has the tag option " + strconv.Quote(option) + ", and only omitempty is known"
		}
		if !utf8.ValidString(name) {
			return "field " + f.Name + " has a name that is not UTF-8"
		}
		at := append(slices.Clip(index), i)
		if f.Anonymous && name == "" {
			switch {
			case f.Type.Kind() == reflect.Pointer:
				return "field " + f.Name + " is an embedded pointer: give it a name"
			case inlined(f.Type) && option != "":
				return "field " + f.Name + " is embedded, so that it cannot be omitted: give it a name"
			case inlined(f.Type):
				if why := b.collect(p, f.Type, at); why != "" {
					return why
				}
				continue
			}
		}
		if !f.IsExported() {
			if tagged {
				return "field " + f.Name + " has a tag but is not exported"
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		if _, taken := p.byName[name]; taken {
			return "two fields are called " + strconv.Quote(name)
		}
		p.byName[name] = len(p.fields)
		p.fields = append(p.fields, field{name, wire.AppendStr(nil, name), at, b.plan(f.Type), option != ""})
		p.omits = p.omits || option != ""
	}
	return ""
}

// inlined says whether an embedded field stands for the fields that it has.
func inlined(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t.Kind() == reflect.Struct && t != timeType && !p.Implements(marshaler) && !p.Implements(unmarshaler)
}
