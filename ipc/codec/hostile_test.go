package codec

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"sandboxd/ipc/wire"
)

// wide is 1 MiB for each byte that an empty map takes.
type wide struct {
	Pad  [1 << 17]uint64 `msgpack:"-"`
	Next *wide
}

// killers make a decoder that believes what it reads allocate gigabytes, or
// recurse until the process dies.
var killers = map[string]string{
	"array of 134 million":          "\xdd\x08\x00\x00\x00",
	"array of 4 billion":            "\xdd\xff\xff\xff\xff\x01\x02\x03",
	"map of 4 billion":              "\xdf\xff\xff\xff\xff\x01\x02\x03",
	"bin of 2 GiB":                  "\xc6\x80\x00\x00\x00",
	"bin of 4 GiB":                  "\xc6\xff\xff\xff\xff\x01\x02\x03",
	"str of 4 GiB":                  "\xdb\xff\xff\xff\xff\x01\x02\x03",
	"field with an array of 4 bn":   "\x81\xa4Ints\xdd\xff\xff\xff\xff\x01\x02\x03",
	"field with a bin of 4 GiB":     "\x81\xa5Bytes\xc6\xff\xff\xff\xff\x01\x02\x03",
	"100 kB of nesting":             strings.Repeat("\x91", 100_000),
	"1.9 MB of nesting":             strings.Repeat("\x91", 1_900_000),
	"4 MiB of nesting":              strings.Repeat("\x91", 4<<20),
	"16 MiB of nesting, in a field": "\x81\xa5bogus" + strings.Repeat("\x91", 16<<20),
	"4 MiB of empty maps":           "\xdd\x00\x40\x00\x00" + strings.Repeat("\x80", 4<<20),
	"trailing byte":                 "\x90\x00",
	"unknown ext":                   "\xd4\x05\x01",
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func targets() []any {
	return []any{
		new(any), new([]int64), new([]everything), new([]any), new([][]byte), new(map[string]string), new(map[string]any), new(everything), new([]byte),
		new(string), new(tree), new(forest), new(chain), new(Raw), new([]Raw),
	}
}

func wideTargets() []any {
	return append(targets(), new([]wide), new(wide), new(*wide), new(map[uint32]wide), new([4]wide))
}

func TestKillers(t *testing.T) {
	for name, in := range killers {
		b := []byte(in)
		for _, v := range wideTargets() {
			var err error
			n := allocated(func() { err = Unmarshal(b, v) })
			if err == nil {
				t.Errorf("%s into %T is accepted", name, v)
			}
			// Plans are made once, and errors; nothing follows what is claimed.
			if n > 1<<20 {
				t.Errorf("%s into %T: %d bytes allocated", name, v, n)
			}
		}
	}
}

// TestMemoryFollowsBytes: the most that a message of its size can make of each
// type is MaxMemory, and what its strings and bins are long.
func TestMemoryFollowsBytes(t *testing.T) {
	list := func(head byte, n int, item string) []byte {
		b := binary.BigEndian.AppendUint32([]byte{head}, uint32(n))
		return append(b, strings.Repeat(item, n)...)
	}
	keys := binary.BigEndian.AppendUint32([]byte{0xdf}, 30_000)
	for i := range uint32(30_000) {
		keys = append(binary.BigEndian.AppendUint32(append(keys, 0xce), i), 0x80)
	}
	var inner, chained []byte
	for range 30 {
		chained = append(chained, "\x81\xa4Next"...)
	}
	inner = append(list(0xdd, 300, string(append(chained, 0xc0))), inner...)
	for _, in := range [][]byte{
		list(0xdd, 65_000, "\x80"), list(0xdd, 65_000, "\xc0"), list(0xdd, 65_000, "\x90"), list(0xdd, 65_000, "\xa0"), list(0xdd, 65_000, "\xc4\x00"),
		list(0xdd, 1000, "\xda\x03\xe8"+strings.Repeat("x", 1000)), keys, inner, chained,
	} {
		for _, v := range wideTargets() {
			n := allocated(func() { _ = Unmarshal(in, v) })
			if limit := uint64(MaxMemory + MaxMemory/4 + 4*len(in)); n > limit { // sizes are rounded up
				t.Errorf("%d bytes, beginning %x, into %T: %d bytes allocated", len(in), in[:6], v, n)
			}
		}
	}
}

func TestMaxMemory(t *testing.T) {
	fits := []byte("\x9f" + strings.Repeat("\x80", 15))
	if err := Unmarshal(fits, new([]wide)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		in   string
		into any
		want string
	}{
		{"\xdc\x00\x10" + strings.Repeat("\x80", 16), new([]wide), "codec: array of 16 does not fit the memory that one message may take, as []codec.wide"},
		{"\x9f" + strings.Repeat("\x81\xa4Next\x80", 15), new([]wide), "codec: [0].Next: map of 0 does not fit the memory that one message may take, as *codec.wide"},
		{"\x88" + strings.Repeat("\x01\x80", 8), new(map[int]wide), "codec: map of 8 does not fit the memory that one message may take, as map[int]codec.wide"},
	} {
		if err := Unmarshal([]byte(c.in), c.into); err == nil || err.Error() != c.want || !errors.Is(err, ErrType) {
			t.Errorf("%x: %v, want %s", c.in[:4], err, c.want)
		}
	}
}

// TestWrongBytes: what is no msgpack is told apart from what is of another type.
func TestWrongBytes(t *testing.T) {
	for in, want := range map[string]error{
		"": wire.ErrTruncated, "\xc1": wire.ErrForm, "\x01\x01": wire.ErrTrailing, "\xc6\xff\xff\xff\xff": wire.ErrLength,
		"\x91" + string(deep(32)): wire.ErrDepth, "\xdd\x00\x01\x00\x00" + strings.Repeat("\x00", 1<<16): wire.ErrItems,
	} {
		err := Unmarshal([]byte(in), new(Raw))
		if !errors.Is(err, want) || errors.Is(err, ErrType) {
			t.Errorf("%.10x: %v, want %v", in, err, want)
		}
	}
	err := Unmarshal([]byte("\x91"), new(Raw))
	if want := "codec: wire: declared length exceeds the bytes left, at byte 0"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

// TestOneCopy: a payload of 1 MiB is allocated once each way.
func TestOneCopy(t *testing.T) {
	const size = 1 << 20
	body, text := make([]byte, size), strings.Repeat("x", size)
	for _, v := range []any{body, text, struct{ Body []byte }{body}, struct{ Text string }{text}, Raw(append([]byte("\xc6\x00\x10\x00\x00"), body...))} {
		if n := allocated(func() { _, _ = Marshal(v) }); n > size*3/2 {
			t.Errorf("encoding %T allocates %d bytes", v, n)
		}
	}
	for v, into := range map[any]any{text: new(string), &body: new([]byte), new(any): new(Raw)} {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if n := allocated(func() { err = Unmarshal(b, into) }); n > size*3/2 || err != nil {
			t.Errorf("decoding into %T allocates %d bytes, %v", into, n, err)
		}
	}
}

// TestSmallAllocations pins what a message of three fields costs.
func TestSmallAllocations(t *testing.T) {
	in, v := &small{"render", 640, 1.5}, small{}
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 64)
	for name, c := range map[string]struct {
		max float64
		f   func() error
	}{
		"Marshal": {1, func() error { _, err := Marshal(in); return err }},
		"Append":  {0, func() error { _, err := Append(buf, in); return err }},
		// The string.
		"Unmarshal": {1, func() error { return Unmarshal(b, &v) }},
	} {
		if n := testing.AllocsPerRun(100, func() { err = c.f() }); n > c.max || err != nil {
			t.Errorf("%s: %v allocations, %v", name, n, err)
		}
	}
}
