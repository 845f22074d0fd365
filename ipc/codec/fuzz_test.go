package codec

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"sandboxd/ipc/wire"
)

// FuzzUnmarshal: whatever decodes is encoded to what decodes to the same.
func FuzzUnmarshal(f *testing.F) {
	for _, v := range []any{
		full(),
		everything{},
		small{"r", 1, 2},
		optional{A: 1},
		composite{Sub: &composite{}},
		samples()[2],
		tree{tree{}, nil},
		forest{"a": {"b": nil}},
		chain{&chain{}},
		map[signal]int{9: 1},
		map[int]map[string][]byte{-1: {"k": {1}}},
		1.5, "str", []byte("bin"), nil,
	} {
		b, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, in := range killers {
		if len(in) < 1000 {
			f.Add([]byte(in))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, blank := range append(targets(),
			new(small), new(optional), new(composite), new(shared), new(float32), new(float64), new([3]byte), new(*chain), new([]signal), new(map[signal]forest),
			new(map[int]map[string][]byte), new(map[int8]float32), new(holder), new(selfish), new([]optional), new(uint64), new(int8), new(map[string]Raw),
		) {
			round(t, in, reflect.TypeOf(blank).Elem())
		}
	})
}

func round(t *testing.T, in []byte, typ reflect.Type) {
	v := reflect.New(typ)
	if err := Unmarshal(in, v.Interface()); err != nil {
		if planOf(typ).stuck != nil {
			return
		}
		checked := wire.Check(in, wire.Limits{})
		if errors.Is(err, ErrType) == (checked != nil) || len(err.Error()) > 4000 || !v.Elem().IsZero() {
			t.Errorf("%x into %v: %v; Check says %v", in, typ, err, checked)
		}
		return
	}
	once, err := Marshal(v.Elem().Interface())
	if err != nil {
		t.Fatalf("%x into %v: cannot be encoded: %v", in, typ, err)
	}
	w := reflect.New(typ)
	if err := Unmarshal(once, w.Interface()); err != nil {
		t.Fatalf("%x into %v: again as %x: %v", in, typ, once, err)
	}
	twice, err := Marshal(w.Elem().Interface())
	if err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%x into %v: %x, then %x, %v", in, typ, once, twice, err)
	}
}
