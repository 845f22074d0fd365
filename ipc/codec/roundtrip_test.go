package codec

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sandboxd/ipc/wire"
)

// TestEncoding pins the bytes of every type, and that they decode to what they
// were made of.
func TestEncoding(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{true, "\xc3"},
		{false, "\xc2"},
		{7, "\x07"},
		{-33, "\xd0\xdf"},
		{int8(-128), "\xd0\x80"},
		{uint8(255), "\xcc\xff"},
		{uint64(math.MaxUint64), "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"},
		{int64(math.MinInt64), "\xd3\x80\x00\x00\x00\x00\x00\x00\x00"},
		{uintptr(3), "\x03"},
		{float32(1.5), "\xca\x3f\xc0\x00\x00"},
		{1.5, "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"},
		{celsius(-2), "\xca\xc0\x00\x00\x00"},
		{math.Copysign(0, -1), "\xcb\x80\x00\x00\x00\x00\x00\x00\x00"},
		{"", "\xa0"},
		{"héé", "\xa5h\xc3\xa9\xc3\xa9"},
		{named("n"), "\xa1n"},
		{[]byte{}, "\xc4\x00"},
		{[]byte("ab"), "\xc4\x02ab"},
		{[]byte(nil), "\xc0"},
		{[]digit{1, 2}, "\xc4\x02\x01\x02"},
		{[3]byte{1, 2, 3}, "\xc4\x03\x01\x02\x03"},
		{bytes3{1, 2, 3}, "\xc4\x03\x01\x02\x03"},
		{[2]digit{1, 2}, "\xc4\x02\x01\x02"},
		{[]int{}, "\x90"},
		{[]int(nil), "\xc0"},
		{[]int{1, -1}, "\x92\x01\xff"},
		{[2]string{"a", ""}, "\x92\xa1a\xa0"},
		{[0]int{}, "\x90"},
		{[]struct{}{{}, {}}, "\x92\x80\x80"},
		{[]signal{9}, "\x91\xa4KILL"},
		{map[string]int(nil), "\xc0"},
		{map[string]int{}, "\x80"},
		{map[string]int{"b": 1, "aa": 2, "a": 3}, "\x83\xa1a\x03\xa2aa\x02\xa1b\x01"},
		{map[int]bool{1: true, -1: false, 300: true}, "\x83\xff\xc2\x01\xc3\xcd\x01\x2c\xc3"},
		{map[uint8]int{200: 1, 3: 2}, "\x82\x03\x02\xcc\xc8\x01"},
		{map[signal]int{9: 1, 15: 2}, "\x82\xa4KILL\x01\xa4TERM\x02"},
		{map[time.Duration]int{5: 1}, "\x81\x05\x01"},
		{(*int)(nil), "\xc0"},
		{new(5), "\x05"},
		{[]*int{nil, new(5)}, "\x92\xc0\x05"},
		{struct{}{}, "\x80"},
		{small{"r", 1, 0}, "\x83\xa4name\xa1r\xa5width\x01\xa5Scale\xcb" + strings.Repeat("\x00", 8)},
		{optional{}, "\x80"},
		{optional{A: 1, C: []int{2}, E: new(0), G: [2]bool{true}}, "\x84\xa1a\x01\xa1c\x91\x02\xa1e\x00\xa1g\x92\xc3\xc2"},
		{composite{embedded: embedded{"b"}, Inlined: Inlined{1}}, "\x84\xa4Base\xa1b\xa4Deep\x01\xa4kept\x81\xa4Deep\x00\xa3Sub\xc0"},
		{tree{tree{}, nil}, "\x92\x90\xc0"},
		{forest{"a": nil, "b": {}}, "\x82\xa1a\xc0\xa1b\x80"},
		{chain{&chain{}}, "\x81\xa4Next\x81\xa4Next\xc0"},
		{time.Unix(1, 0).UTC(), "\xd6\xff\x00\x00\x00\x01"},
		{time.Time{}, "\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xf1\x88\x6e\x09\x00"},
		{time.Second, "\xce\x3b\x9a\xca\x00"},
		{netip.MustParseAddr("::1"), "\xa3::1"},
		{signal(15), "\xa4TERM"},
		{new(signal(9)), "\xa4KILL"},
		{big.NewInt(-5), "\xa2-5"},
		{Raw("\x92\x01\xcc\x02"), "\x92\x01\xcc\x02"},
		{Raw("\xc0"), "\xc0"},
	} {
		got, err := Marshal(c.v)
		if err != nil || string(got) != c.want {
			t.Errorf("%T %v is %x, %v, want %x", c.v, c.v, got, err, c.want)
			continue
		}
		if err := wire.Check(got, wire.Limits{}); err != nil {
			t.Errorf("%T %v: %v", c.v, c.v, err)
		}
		back := reflect.New(reflect.TypeOf(c.v))
		if err := Unmarshal(got, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), c.v) {
			t.Errorf("%T %v decodes to %v, %v", c.v, c.v, back.Elem().Interface(), err)
		}
	}
}

func full() everything {
	return everything{
		Bool: true, Int: -1, Int8: 2, Int16: -300, Int32: 70000, Int64: 1 << 40, Uint: 1, Uint8: 2, Uint16: 300, Uint32: 70000, Uint64: 1 << 63,
		Float32: 0.1, Float64: 0.1, String: "s", Named: "n", Bytes: []byte{0}, Array: [3]byte{1, 2, 3}, Ints: []int{1, 2}, Strings: []string{"", "a"},
		Pair: [2]string{"l", "r"}, Map: map[string]int{"x": 1, "y": 2}, Numbers: map[int8]string{-1: "m"}, Sizes: map[uint16][]byte{300: {}},
		Nested: map[string]map[string][]int{"a": {"b": {1}}, "c": nil}, Pointer: new(0), Chain: &chain{&chain{}},
		Time: time.Unix(1e9, 5).UTC(), Every: -time.Minute, Addr: netip.MustParseAddr("10.0.0.1"), Addrs: map[netip.Addr]bool{netip.MustParseAddr("::1"): true},
		Big: new(big.Int).Lsh(big.NewInt(1), 100), Raw: Raw("\x93\x01\x02\x03"), Jobs: []optional{{}, {A: 1}},
	}
}

func TestRoundTrip(t *testing.T) {
	want := full()
	b, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, err := Marshal(full()); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("not deterministic: %x and %x, %v", b, again, err)
		}
	}
	got := everything{String: "what was there before", Pointer: new(9), Map: map[string]int{"z": 3}}
	if err := Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

// TestZeroFirst: what the target held is gone, whether decoding succeeds or not.
func TestZeroFirst(t *testing.T) {
	v := full()
	if err := Unmarshal([]byte("\x81\xa3Int\x05"), &v); err != nil || !reflect.DeepEqual(v, everything{Int: 5}) {
		t.Errorf("decoded %+v, %v", v, err)
	}
	v = full()
	if err := Unmarshal([]byte("\x82\xa3Int\x05\xa4Bool\x05"), &v); err == nil || !reflect.DeepEqual(v, everything{}) {
		t.Errorf("after %v: %+v", err, v)
	}
	v = full()
	if err := Unmarshal([]byte("\xc1"), &v); err == nil || !reflect.DeepEqual(v, everything{}) {
		t.Errorf("after %v: %+v", err, v)
	}
}

// TestInterfaces: an interface is encoded as what it holds.
func TestInterfaces(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "\xc0"},
		{[]any{1, "a", nil, []byte("b"), map[string]any{"k": 1.5}}, "\x95\x01\xa1a\xc0\xc4\x01b\x81\xa1k\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"},
		{holder{holder{}}, "\x81\xa5Inner\x81\xa5Inner\xc0"},
		{map[string]fmt.Stringer{"d": time.Second}, "\x81\xa1d\xce\x3b\x9a\xca\x00"},
		{[]any{signal(9), level(0), new(level(0)), Raw(nil), [2]byte{1, 2}, time.Unix(1, 0)}, "\x96\xa4KILL\xa5level\xa5level\xc0\xc4\x02\x01\x02\xd6\xff\x00\x00\x00\x01"},
	} {
		if got, err := Marshal(c.v); err != nil || string(got) != c.want {
			t.Errorf("%v is %x, %v, want %x", c.v, got, err, c.want)
		}
	}
}

// TestLenientWhereExact: other forms of the same value decode to it.
func TestLenientWhereExact(t *testing.T) {
	for _, c := range []struct {
		in   string
		want any
	}{
		{"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", uint8(5)},
		{"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", int8(5)},
		{"\x05", 5.0},
		{"\xfb", float32(-5)},
		{"\xca\x3f\xc0\x00\x00", 1.5},
		{"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", float32(0.1)}, // rounded
		{"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", float32(math.Inf(1))},
		{"\xdb\x00\x00\x00\x01a", "a"},
		{"\xc6\x00\x00\x00\x01a", []byte("a")},
		{"\xdd\x00\x00\x00\x01\x05", []int{5}},
		{"\xdf\x00\x00\x00\x01\xd9\x01k\x05", map[string]int{"k": 5}},
		{"\x82\xa5width\x01\xa4name\xa1n", small{Name: "n", Width: 1}}, // any order
	} {
		got := reflect.New(reflect.TypeOf(c.want))
		if err := Unmarshal([]byte(c.in), got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), c.want) {
			t.Errorf("%x decodes to %v, %v, want %v", c.in, got.Elem().Interface(), err, c.want)
		}
	}
	var f float32
	if err := Unmarshal([]byte("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01"), &f); err != nil || f == f {
		t.Errorf("not-a-number decodes to %v, %v", f, err)
	}
}

// TestNothingIsShared: what was decoded stays when the input is overwritten.
func TestNothingIsShared(t *testing.T) {
	in, err := Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	var v everything
	if err := Unmarshal(in, &v); err != nil {
		t.Fatal(err)
	}
	clear(in)
	if !reflect.DeepEqual(v, full()) {
		t.Errorf("decoded value changed to %+v", v)
	}
}

// TestLeftOut: neither the tag "-" nor an unexported name reaches the wire.
func TestLeftOut(t *testing.T) {
	bare, err := Marshal(composite{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Marshal(composite{Hidden: 3, secret: 4}); err != nil || !bytes.Equal(b, bare) {
		t.Errorf("encoded as %x, %v, want %x", b, err, bare)
	}
}

func TestAppend(t *testing.T) {
	b, err := Append([]byte("head"), 5)
	if err != nil || string(b) != "head\x05" {
		t.Errorf("appended %q, %v", b, err)
	}
	if b, err = Append(b, []any{1, func() {}}); err == nil || string(b) != "head\x05" {
		t.Errorf("after an error %q, %v", b, err)
	}
	if b, err := Marshal(func() {}); err == nil || b != nil {
		t.Errorf("marshalled %q, %v", b, err)
	}
}
