package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// hostile are inputs that make a decoder without a check allocate gigabytes or
// exhaust its stack.
var hostile = []struct {
	name string
	in   string
	want error
}{
	{"array of 134 million", "\xdd\x08\x00\x00\x00", ErrLength},
	{"array of 4 billion", "\xdd\xff\xff\xff\xff\x01\x02\x03", ErrLength},
	{"array16 of 65535", "\xdc\xff\xff", ErrLength},
	{"map of 4 billion", "\xdf\xff\xff\xff\xff\x01\x02\x03", ErrLength},
	{"map of 2 billion", "\xdf\x80\x00\x00\x00\x01\x02\x03", ErrLength},
	{"bin of 2 GiB", "\xc6\x80\x00\x00\x00", ErrLength},
	{"bin of 4 GiB", "\xc6\xff\xff\xff\xff\x01\x02\x03", ErrLength},
	{"str of 4 GiB", "\xdb\xff\xff\xff\xff\x01\x02\x03", ErrLength},
	{"ext of 4 GiB", "\xc9\xff\xff\xff\xff\xff\x02\x03", ErrLength},
	{"100 kB of nesting", strings.Repeat("\x91", 100_000), ErrDepth},
	{"1.9 MB of nesting", strings.Repeat("\x91", 1_900_000), ErrDepth},
	{"16 MiB of nesting", strings.Repeat("\x91", 16<<20), ErrDepth},
	{"nesting in keys", strings.Repeat("\x81", 100_000), ErrDepth},
	{"nesting in second elements", strings.Repeat("\x92\x01", 100_000), ErrDepth},
	{"4 MiB of empty maps", "\xdd\x00\x40\x00\x00" + strings.Repeat("\x80", 4<<20), ErrItems},
	{"4 MiB of empty maps, bare", strings.Repeat("\x80", 4<<20), ErrTrailing},
	{"trailing byte", "\x01\x02", ErrTrailing},
	{"trailing nil", "\x90\xc0", ErrTrailing},
	{"unknown ext", "\xd4\x05\x01", ErrForm},
	{"unknown ext8", "\xc7\x04\x05\x01\x02\x03\x04", ErrForm},
	{"timestamp of 1 byte", "\xd4\xff\x01", ErrForm},
	{"timestamp of 16 bytes", "\xd8\xff" + strings.Repeat("\x01", 16), ErrForm},
	{"empty timestamp", "\xc7\x00\xff", ErrForm},
	{"unused byte", "\xc1", ErrForm},
	{"unused byte inside", "\x92\x01\xc1", ErrForm},
	{"nothing", "", ErrTruncated},
	{"no element", "\x91", ErrLength},
	{"half an element", "\x91\xcd\x01", ErrTruncated},
	{"no value for the key", "\x81\x01", ErrLength},
	{"half a count", "\xdd\x00\x00", ErrTruncated},
	{"half a double", "\xcb\x00\x00\x00", ErrTruncated},
	{"short fixstr", "\xa3ab", ErrLength},
	{"two arrays share one element", "\x92\x91\x01", ErrTruncated},
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range hostile {
		in := []byte(c.in)
		if err := Check(in, Limits{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		// One allocation is the error; nothing is made of what is claimed.
		if n := testing.AllocsPerRun(1, func() { _ = Check(in, Limits{}) }); n > 1 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestCheckSaysWhere(t *testing.T) {
	err := Check([]byte("\x92\x01\x91\xc6\xff\xff\xff\xff"), Limits{})
	if want := "wire: declared length exceeds the bytes left, at byte 3"; err == nil || err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
	var at *OffsetError
	if !errors.As(err, &at) || at.Offset != 3 {
		t.Errorf("offset is %+v", at)
	}
}

// forEveryForm holds a value in every form there is.
func forEveryForm() map[string]string {
	all := map[string]string{
		"nil": "\xc0", "false": "\xc2", "true": "\xc3", "fixint": "\x7f", "negative fixint": "\xe0",
		"uint8": "\xcc\x01", "uint16": "\xcd\x00\x01", "uint32": "\xce\x00\x00\x00\x01", "uint64": "\xcf\x00\x00\x00\x00\x00\x00\x00\x01",
		"int8": "\xd0\x01", "int16": "\xd1\x00\x01", "int32": "\xd2\x00\x00\x00\x01", "int64": "\xd3\x00\x00\x00\x00\x00\x00\x00\x01",
		"float32": "\xca\x00\x00\x00\x00", "float64": "\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
		"fixstr": "\xa1a", "str8": "\xd9\x01a", "str16": "\xda\x00\x01a", "str32": "\xdb\x00\x00\x00\x01a",
		"bin8": "\xc4\x01a", "bin16": "\xc5\x00\x01a", "bin32": "\xc6\x00\x00\x00\x01a",
		"fixarray": "\x91\x01", "array16": "\xdc\x00\x01\x01", "array32": "\xdd\x00\x00\x00\x01\x01",
		"fixmap": "\x81\x01\x02", "map16": "\xde\x00\x01\x01\x02", "map32": "\xdf\x00\x00\x00\x01\x01\x02",
		"empty array": "\x90", "empty map": "\x80", "empty str": "\xa0", "empty bin": "\xc4\x00",
	}
	for name, head := range map[string]string{"fixext4": "\xd6\xff", "ext8 of 4": "\xc7\x04\xff", "ext16 of 4": "\xc8\x00\x04\xff", "ext32 of 4": "\xc9\x00\x00\x00\x04\xff"} {
		all[name] = head + "\x00\x00\x00\x01"
	}
	for name, head := range map[string]string{"fixext8": "\xd7\xff", "ext8 of 8": "\xc7\x08\xff"} {
		all[name] = head + "\x00\x00\x00\x00\x00\x00\x00\x01"
	}
	all["ext8 of 12"] = "\xc7\x0c\xff" + strings.Repeat("\x00", 11) + "\x01"
	return all
}

func TestCheckAcceptsEveryForm(t *testing.T) {
	for name, in := range forEveryForm() {
		b := []byte(in)
		if err := Check(b, Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(append([]byte{0x92}, bytes.Repeat(b, 2)...), Limits{}); err != nil {
			t.Errorf("two of %s: %v", name, err)
		}
		for n := range b {
			if err := Check(b[:n], Limits{}); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrLength) {
				t.Errorf("%s: first %d bytes: %v", name, n, err)
			}
		}
		if n := testing.AllocsPerRun(10, func() { _ = Check(b, Limits{}) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestLimits(t *testing.T) {
	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }
	empty := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n-1), 0x90) }
	list := func(n int) []byte { return append(AppendArrayHead(nil, n), make([]byte, n)...) }
	pairs := func(n int) []byte { return append(AppendMapHead(nil, n), make([]byte, 2*n)...) }
	for _, c := range []struct {
		name string
		in   []byte
		l    Limits
		want error
	}{
		{"default depth", nested(DefaultDepth), Limits{}, nil},
		{"one deeper", nested(DefaultDepth + 1), Limits{}, ErrDepth},
		{"one deeper, empty", empty(DefaultDepth + 1), Limits{}, ErrDepth},
		{"depth 1", nested(1), Limits{Depth: 1}, nil},
		{"depth 2 of 1", nested(2), Limits{Depth: 1}, ErrDepth},
		{"largest depth", nested(MaxDepth), Limits{Depth: 1000}, nil},
		{"beyond it", nested(MaxDepth + 1), Limits{Depth: 1000}, ErrDepth},
		{"no depth", nested(1), Limits{Depth: -1}, ErrDepth},
		{"no depth needed", nested(0), Limits{Depth: -1}, nil},
		{"default items", list(DefaultItems - 1), Limits{}, nil},
		{"one more", list(DefaultItems), Limits{}, ErrItems},
		{"pairs count twice", pairs(DefaultItems/2 - 1), Limits{}, nil},
		{"one pair more", pairs(DefaultItems / 2), Limits{}, ErrItems},
		{"more allowed", list(DefaultItems), Limits{Items: 1 << 20}, nil},
		{"one item", nested(0), Limits{Items: 1}, nil},
		{"two items of 1", nested(1), Limits{Items: 1}, ErrItems},
		{"no items", nested(0), Limits{Items: -1}, ErrItems},
	} {
		if err := Check(c.in, c.l); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
