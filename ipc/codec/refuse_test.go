package codec

import (
	"bytes"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sandboxd/ipc/wire"
)

// TestDecodingRefuses pins the text of every refusal.
func TestDecodingRefuses(t *testing.T) {
	type batch struct {
		Jobs []struct {
			Width uint8 `msgpack:"width"`
		} `msgpack:"jobs"`
	}
	for _, c := range []struct {
		in   string
		into any
		want string
	}{
		{"\x81\xa4jobs\x92\x81\xa5width\x01\x81\xa5width\xcd\x01\x2c", new(batch), "codec: .jobs[1].width: 300 does not fit uint8"},
		{"\xcd\x01\x2c", new(uint8), "codec: 300 does not fit uint8"},
		{"\xff", new(uint64), "codec: -1 does not fit uint64"},
		{"\xcc\x80", new(int8), "codec: 128 does not fit int8"},
		{"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", new(int64), "codec: 18446744073709551615 does not fit int64"},
		{"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", new(int), "codec: float 1 does not fit int"},
		{"\xa11", new(int), "codec: str of 1 bytes does not fit int"},
		{"\xc0", new(int), "codec: nil does not fit int"},
		{"\x01", new(bool), "codec: 1 does not fit bool"},
		{"\xc0", new(bool), "codec: nil does not fit bool"},
		{"\xc3", new(string), "codec: true does not fit string"},
		{"\xc4\x01a", new(string), "codec: bin of 1 bytes does not fit string"},
		{"\xc0", new(string), "codec: nil does not fit string"},
		{"\xa1\xff", new(string), "codec: str that is not UTF-8 does not fit string"},
		{"\xa1a", new([]byte), "codec: str of 1 bytes does not fit []uint8"},
		{"\x91\x01", new([]byte), "codec: array of 1 does not fit []uint8"},
		{"\xc4\x02ab", new([3]byte), "codec: bin of 2 bytes does not fit [3]uint8"},
		{"\xc4\x04abcd", new(bytes3), "codec: bin of 4 bytes does not fit codec.bytes3"},
		{"\xc0", new([3]byte), "codec: nil does not fit [3]uint8"},
		{"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", new(float64), "codec: 9007199254740993 does not fit float64"},
		{"\xce\x01\x00\x00\x01", new(float32), "codec: 16777217 does not fit float32"},
		{"\xcb\x7f\xef\xff\xff\xff\xff\xff\xff", new(float32), "codec: float 1.7976931348623157e+308 does not fit float32"},
		{"\xc0", new(float64), "codec: nil does not fit float64"},
		{"\x80", new([]int), "codec: map of 0 does not fit []int"},
		{"\x92\x01\xc2", new([]int), "codec: [1]: false does not fit int"},
		{"\x92\x01\x02", new([3]int), "codec: array of 2 does not fit [3]int"},
		{"\xc0", new([3]int), "codec: nil does not fit [3]int"},
		{"\x90", new(map[string]int), "codec: array of 0 does not fit map[string]int"},
		{"\x81\x01\x02", new(map[string]int), "codec: key 1 does not fit string"},
		{"\x81\xa1a\x02", new(map[int]int), "codec: key str of 1 bytes does not fit int"},
		{"\x81\xcd\x01\x2c\x02", new(map[int8]int), "codec: key 300 does not fit int8"},
		{"\x82\xa1a\x01\xa1a\x02", new(map[string]int), "codec: second key \"a\" does not fit map[string]int"},
		{"\x82\x05\x01\xcc\x05\x02", new(map[int]int), "codec: second key 5 does not fit map[int]int"},
		{"\x82\xa3::1\x01\xa50::01\x02", new(map[netip.Addr]int), "codec: second key \"0::01\" does not fit map[netip.Addr]int"},
		{"\x81\xa1a\xa1b", new(map[string]int), "codec: [\"a\"]: str of 1 bytes does not fit int"},
		{"\x81\x05\xa1b", new(map[int]int), "codec: [5]: str of 1 bytes does not fit int"},
		{"\x81\xd9\x40" + strings.Repeat("k", 64) + "\xc0", new(map[string]int), "codec: [\"" + strings.Repeat("k", 40) + "…\"]: nil does not fit int"},
		{"\xc0", new(small), "codec: nil does not fit codec.small"},
		{"\x93\xa1a\x01\x02", new(small), "codec: array of 3 does not fit codec.small"},
		{"\x81\xa4nome\xa1a", new(small), "codec: unknown field \"nome\" does not fit codec.small"},
		{"\x81\xa5scale\x01", new(small), "codec: unknown field \"scale\" does not fit codec.small"},
		{"\x81\x01\xa1a", new(small), "codec: key 1 does not fit codec.small"},
		{"\x81\xa1\xff\xa1a", new(small), "codec: key str that is not UTF-8 does not fit codec.small"},
		{"\x82\xa4name\xa1a\xa4name\xa1b", new(small), "codec: second field \"name\" does not fit codec.small"},
		{"\x81\xa3Sub\x81\xa4kept\x81\xa4deep\x01", new(composite), "codec: .Sub.kept: unknown field \"deep\" does not fit codec.Inlined"},
		{"\x81\xa6Hidden\x01", new(composite), "codec: unknown field \"Hidden\" does not fit codec.composite"},
		{"\x81\xa6secret\x01", new(composite), "codec: unknown field \"secret\" does not fit codec.composite"},
		{"\xa5today", new(time.Time), "codec: str of 5 bytes does not fit time.Time"},
		{"\xd7\xff\xee\x6b\x28\x00\x00\x00\x00\x00", new(time.Time), "codec: timestamp outside the years 1 to 9999 does not fit time.Time"},
		{"\xd6\xff\x00\x00\x00\x01", new(int), "codec: timestamp does not fit int"},
		{"\xa21s", new(time.Duration), "codec: str of 2 bytes does not fit time.Duration"},
		{"\xa4HUPS", new(signal), "codec: \"HUPS\" does not fit codec.signal: no such signal: HUPS"},
		{"\xa4HU\nS", new(signal), "codec: \"HU\\nS\" does not fit codec.signal: no such signal: HU?S"},
		{"\x09", new(signal), "codec: 9 does not fit codec.signal"},
		{"\xc0", new(signal), "codec: nil does not fit codec.signal"},
		{"\xa5level", new(level), "codec: str of 5 bytes does not fit codec.level"}, // text one way only
		{"\x01", new(any), "codec: a value does not fit interface {} (take it as codec.Raw, and decode that once its type is known)"},
		{"\x80", new(map[string][]*holder), "codec: [][].Inner: a value does not fit interface {} (take it as codec.Raw, and decode that once its type is known)"},
		{"\x81\xa5Inner\xa1a", new(holder), "codec: .Inner: a value does not fit interface {} (take it as codec.Raw, and decode that once its type is known)"},
		{"\xc0", new(error), "codec: a value does not fit error (take it as codec.Raw, and decode that once its type is known)"},
		{"\xc0", new(func()), "codec: a value does not fit func() (it has no msgpack form: leave it out with the tag \"-\")"},
		{"\xc0", new(chan int), "codec: a value does not fit chan int (it has no msgpack form: leave it out with the tag \"-\")"},
		{"\x01", new(complex128), "codec: a value does not fit complex128 (it has no msgpack form: leave it out with the tag \"-\")"},
		{"\x01", new(**int), "codec: a value does not fit **int (which of two pointers is nil cannot be told: use one)"},
		{"\x01", new(selfish), "codec: a value does not fit codec.selfish (which of two pointers is nil cannot be told: use one)"},
		{"\x81\xc3\x01", new(map[bool]int), "codec: a value does not fit map[bool]int (keys are strings, integers or text)"},
		{"\x80", new(map[level]int), "codec: a value does not fit map[codec.level]int (its keys are text in one direction only)"},
	} {
		err := Unmarshal([]byte(c.in), c.into)
		if err == nil || err.Error() != c.want {
			t.Errorf("%x into %T:\n got %v\nwant %s", c.in, c.into, err, c.want)
		}
		var te *TypeError
		if !errors.Is(err, ErrType) || !errors.As(err, &te) {
			t.Errorf("%x into %T: error of type %T", c.in, c.into, err)
		}
		if v := reflect.ValueOf(c.into).Elem(); !v.IsZero() {
			t.Errorf("%x into %T: left %v", c.in, c.into, v)
		}
	}
}

func TestTagsRefuse(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{struct {
			A int `msgpack:"a,as_array"`
		}{}, "field A has the tag option \"as_array\", and only omitempty is known"},
		{struct {
			A int `msgpack:"b"`
			B int `msgpack:"b"`
		}{}, "two fields are called \"b\""},
		{struct {
			Inlined
			Deep int
		}{}, "two fields are called \"Deep\""},
		{struct {
			A int `msgpack:"\xff"`
		}{}, "field A has a name that is not UTF-8"},
		{struct{ *Inlined }{}, "field Inlined is an embedded pointer: give it a name"},
		{struct {
			Inlined `msgpack:",omitempty"`
		}{}, "field Inlined is embedded, so that it cannot be omitted: give it a name"},
		{struct {
			a int `msgpack:"a"`
		}{}, "field a has a tag but is not exported"},
	} {
		_, err := Marshal(c.v)
		if err == nil || !errors.Is(err, ErrType) || !strings.HasSuffix(err.Error(), "does not fit msgpack ("+c.want+")") {
			t.Errorf("%T: %v, want %s", c.v, err, c.want)
		}
		err = Unmarshal([]byte("\x80"), reflect.New(reflect.TypeOf(c.v)).Interface())
		if err == nil || !errors.Is(err, ErrType) || !strings.HasSuffix(err.Error(), " ("+c.want+")") {
			t.Errorf("into %T: %v, want %s", c.v, err, c.want)
		}
	}
}

func TestEncodingRefuses(t *testing.T) {
	circle := &chain{}
	circle.Next = circle
	var looking any
	looking = &looking
	round := tree{nil}
	round[0] = round
	wide := []any{1}
	for range 30 { // 2^30 values, were nobody counting
		wide = []any{wide, wide}
	}
	no := " does not fit msgpack (it has no msgpack form: leave it out with the tag \"-\")"
	for _, c := range []struct {
		v    any
		want string
		is   error
	}{
		{func() {}, "codec: func()" + no, nil},
		{[]any{1, make(chan int)}, "codec: [1]: chan int" + no, nil},
		{map[string]any{"k": 1i}, "codec: [\"k\"]: complex128" + no, nil},
		{map[int8]any{-5: 1i}, "codec: [-5]: complex128" + no, nil},
		{map[uint8]any{5: 1i}, "codec: [5]: complex128" + no, nil},
		{struct{ F func() }{}, "codec: .F: func()" + no, nil},
		{new(new(1)), "codec: **int does not fit msgpack (which of two pointers is nil cannot be told: use one)", nil},
		{map[[1]int]int{}, "codec: map[[1]int]int does not fit msgpack (keys are strings, integers or text)", nil},
		{map[any]int{}, "codec: map[interface {}]int does not fit msgpack (keys are strings, integers or text)", nil},
		{"\xff", "codec: string that is not UTF-8 does not fit a str (use []byte)", nil},
		{map[string]int{"\xff": 1}, "codec: key string that is not UTF-8 does not fit a str (use []byte)", nil},
		{signal(-1), "codec: codec.signal does not fit a str: no such signal", nil},
		{signal(-2), "codec: string that is not UTF-8 does not fit a str (use []byte)", nil},
		{map[signal]int{-1: 1}, "codec: key codec.signal does not fit a str: no such signal", nil},
		{map[signal]int{9: 1, 10: 2}, "codec: second key \"KILL\" does not fit map[codec.signal]int", nil},
		{[]time.Time{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "codec: [0]: time of the year 10000 does not fit a timestamp (years 1 to 9999)", nil},
		{time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "codec: time of the year 0 does not fit a timestamp (years 1 to 9999)", nil},
		{struct{ R Raw }{Raw{}}, "codec: .R: Raw of 0 bytes does not fit one value: wire: bytes end inside a value, at byte 0", wire.ErrTruncated},
		{Raw("\x01\x02"), "codec: Raw of 2 bytes does not fit one value: wire: bytes follow the value, at byte 1", wire.ErrTrailing},
		{[]Raw{deep(32)}, "codec: value with what its Raws hold does not fit the limits: wire: arrays and maps nest too deeply, at byte 32", wire.ErrDepth},
		{circle, "codec: " + strings.Repeat(".Next", 32) + ": codec.chain does not fit 32 levels: wire: arrays and maps nest too deeply", wire.ErrDepth},
		{round, "codec: " + strings.Repeat("[0]", 32) + ": codec.tree does not fit 32 levels: wire: arrays and maps nest too deeply", wire.ErrDepth},
		{looking, "codec: interface {} does not fit 65 interfaces within each other: wire: arrays and maps nest too deeply", wire.ErrDepth},
		{make([]bool, wire.DefaultItems), "codec: []bool does not fit 65536 values in all: wire: too many values", wire.ErrItems},
		{[1 << 40]struct{}{}, "codec: [1099511627776]struct {} does not fit 65536 values in all: wire: too many values", wire.ErrItems},
		{[]any{wide}, "", wire.ErrItems},
	} {
		_, err := Marshal(c.v)
		if err == nil || c.want != "" && err.Error() != c.want {
			t.Errorf("%T:\n got %v\nwant %s", c.v, err, c.want)
		}
		if !errors.Is(err, ErrType) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%T: %v is not %v", c.v, err, c.is)
		}
	}
}

// deep is a Raw of so many arrays.
func deep(n int) Raw { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }

func TestTargetRefuses(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "codec: cannot decode into <nil>: pass a pointer that is not nil: value does not fit the type"},
		{5, "codec: cannot decode into int: pass a pointer that is not nil: value does not fit the type"},
		{(*int)(nil), "codec: cannot decode into *int: pass a pointer that is not nil: value does not fit the type"},
		{map[string]int{}, "codec: cannot decode into map[string]int: pass a pointer that is not nil: value does not fit the type"},
	} {
		if err := Unmarshal([]byte{1}, c.v); err == nil || err.Error() != c.want || !errors.Is(err, ErrType) {
			t.Errorf("%T: %v, want %s", c.v, err, c.want)
		}
	}
}

// TestErrorsAreShort: a peer cannot make us log megabytes.
func TestErrorsAreShort(t *testing.T) {
	long := strings.Repeat("é", 1<<18)
	b, err := Marshal(map[string]map[string]string{long: {long: long}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{new(map[string]map[string]int), new(map[string]small), new(small), new(map[signal]int), new(string)} {
		if err := Unmarshal(b, v); err == nil || len(err.Error()) > 500 || strings.ContainsRune(err.Error(), '\uFFFD') {
			t.Errorf("into %T: %d bytes: %.600v", v, len(err.Error()), err)
		}
	}
	if err := Unmarshal(b, new(float32)); err == nil || math.MaxInt8 < len(err.Error()) {
		t.Error(err)
	}
}
