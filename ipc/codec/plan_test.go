package codec

import (
	"errors"
	"reflect"
	"sync"
	"testing"
)

// TestPlansAreMadeAtOnce: types that refer to each other are first met by many
// goroutines at the same time, some by one and some by the other.
func TestPlansAreMadeAtOnce(t *testing.T) {
	type left struct {
		Name string
		Left map[string]*left
	}
	type right struct {
		Lefts []left
		Right *right
	}
	want := right{Lefts: []left{{Name: "a", Left: map[string]*left{"b": {Name: "b"}}}}, Right: &right{}}
	b, err := Marshal(map[string]any{"Lefts": []any{map[string]any{"Name": "a", "Left": map[string]any{"b": map[string]any{"Name": "b"}}}}, "Right": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if i%2 == 0 {
				if err := Unmarshal([]byte("\x81\xa4Name\xa1x"), new(left)); err != nil {
					t.Error(err)
				}
			}
			var got right
			if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("decoded %+v, %v", got, err)
			}
		})
	}
	wg.Wait()
}

// TestManyFields: what was seen of a struct is kept for any number of fields.
func TestManyFields(t *testing.T) {
	var fields []reflect.StructField
	for i := range 300 {
		name := "F" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		fields = append(fields, reflect.StructField{Name: name, Type: reflect.TypeFor[int]()})
	}
	v := reflect.New(reflect.StructOf(fields))
	for i := range 300 {
		v.Elem().Field(i).SetInt(int64(i))
	}
	b, err := Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	w := reflect.New(v.Type().Elem())
	if err := Unmarshal(b, w.Interface()); err != nil || w.Elem().Field(299).Int() != 299 {
		t.Errorf("last field is %v, %v", w.Elem().Field(299), err)
	}
	twice := append([]byte("\xde\x01\x2d"), b[3:]...)
	twice = append(twice, "\xa3Fln\x01"...) // the last one once more
	var te *TypeError
	if err := Unmarshal(twice, w.Interface()); !errors.As(err, &te) || te.Got != "second field \"Fln\"" {
		t.Error(err)
	}
}
