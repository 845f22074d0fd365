package plan

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata")

// every is one step of each kind, with operands that differ from each other.
func every() []Step {
	var steps []Step
	for k := MountPrivate; k < kindEnd; k++ {
		s := Step{Kind: k}
		for i := range fields(meaning[k].nums) {
			s.Nums = append(s.Nums, uint64(k)<<8|uint64(i+1))
		}
		for i, f := range fields(meaning[k].strs) {
			str := strings.Repeat(string(rune('a'+i)), int(k)%8+i)
			if f.form == 'l' {
				str = "one\x00two\x00"
			}
			s.Strs = append(s.Strs, str)
		}
		steps = append(steps, s)
	}
	return steps
}

// golden compares got with testdata/name, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; the wire form is a protocol with the committed init, so a change needs a new kind. Got:\n%s", file, got)
	}
}

func TestEncodingGolden(t *testing.T) {
	var b strings.Builder
	for _, s := range every() {
		wire, err := Append(nil, []Step{s})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%v\n%s", s.Kind, hex.Dump(wire))
	}
	golden(t, "encoding.txt", b.String())
}

func TestStringGolden(t *testing.T) {
	var b strings.Builder
	for _, s := range every() {
		fmt.Fprintln(&b, s)
	}
	for _, s := range []Step{
		{Kind: Mkdir, Nums: []uint64{Cwd, 0o1777, NoID, NoID, Exist}, Strs: []string{"/tmp"}},
		{Kind: Affinity, Strs: []string{"\x05\x80"}},
		{Kind: Fsmount, Nums: []uint64{0, 0}, Strs: []string{"tmpfs", ""}},
		{Kind: Seccomp, Nums: []uint64{0}, Strs: []string{strings.Repeat("\x00", 80)}},
		{Kind: Hostname, Strs: []string{"a\x1b[31mb\n"}},
		{Kind: Pivot, Nums: []uint64{1, 2}, Strs: []string{"more than it has"}},
		{Kind: 0},
		{Kind: 65535},
	} {
		fmt.Fprintln(&b, s)
	}
	golden(t, "string.txt", b.String())
}

// decode reads the wire form in the way that the init does.
func decode(b []byte) ([]Step, error) {
	short := errors.New("short")
	var steps []Step
	for len(b) > 0 {
		if len(b) < headSize {
			return nil, short
		}
		s := Step{Kind: Kind(binary.LittleEndian.Uint16(b))}
		nums, strs, size := int(b[2]), int(b[3]), int(binary.LittleEndian.Uint32(b[4:]))
		if size < headSize || size%8 != 0 || size > len(b) {
			return nil, fmt.Errorf("size %d of %d", size, len(b))
		}
		p := b[headSize:size]
		b = b[size:]
		for range nums {
			if len(p) < 8 {
				return nil, short
			}
			s.Nums, p = append(s.Nums, binary.LittleEndian.Uint64(p)), p[8:]
		}
		for range strs {
			if len(p) < 5 {
				return nil, short
			}
			n := int(binary.LittleEndian.Uint32(p))
			if p = p[4:]; n >= len(p) || p[n] != 0 {
				return nil, fmt.Errorf("string of %d in %d", n, len(p))
			}
			s.Strs, p = append(s.Strs, string(p[:n])), p[n+1:]
		}
		if len(p) > 7 || bytes.ContainsFunc(p, func(r rune) bool { return r != 0 }) {
			return nil, fmt.Errorf("padding % x", p)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

func equal(a, b []Step) bool {
	return slices.EqualFunc(a, b, func(x, y Step) bool {
		return x.Kind == y.Kind && slices.Equal(x.Nums, y.Nums) && slices.Equal(x.Strs, y.Strs)
	})
}

// Padding was once read as one more operand. Here strings of every length
// stand before a step that would notice.
func TestEveryLengthModEight(t *testing.T) {
	for length := range 33 {
		for second := range 9 {
			in := []Step{
				{Kind: Symlink, Nums: []uint64{Cwd}, Strs: []string{strings.Repeat("\xff", length), strings.Repeat("\x00", second)}},
				{Kind: Rlimit, Nums: []uint64{1, ^uint64(0), 1 << 63}},
				{Kind: Hostname, Strs: []string{strings.Repeat("h", second)}},
			}
			b, err := Append([]byte("before"), in)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(b, []byte("before")) || (len(b)-6)%8 != 0 {
				t.Fatalf("lengths %d, %d: %d bytes, or not behind what was there", length, second, len(b))
			}
			out, err := decode(b[6:])
			if err != nil || !equal(in, out) {
				t.Fatalf("lengths %d, %d: got %v, %v", length, second, out, err)
			}
		}
	}
}

func TestAppendLimits(t *testing.T) {
	nums, strs := make([]uint64, MaxNums+1), make([]string, MaxStrs+1)
	fits := strings.Repeat("x", MaxBytes-headSize-4-1)
	for name, c := range map[string]struct {
		steps []Step
		ok    bool
	}{
		"none":             {nil, true},
		"most operands":    {[]Step{{Kind: Exec, Nums: nums[:MaxNums], Strs: strs[:MaxStrs]}}, true},
		"numbers":          {[]Step{{Kind: Exec, Nums: nums}}, false},
		"strings":          {[]Step{{Kind: Exec, Strs: strs}}, false},
		"kind 0":           {[]Step{{}}, false},
		"kind too large":   {[]Step{{Kind: kindEnd}}, false},
		"largest section":  {[]Step{{Kind: Hostname, Strs: []string{fits}}}, true},
		"one byte more":    {[]Step{{Kind: Hostname, Strs: []string{fits + "x"}}}, false},
		"one step more":    {[]Step{{Kind: Hostname, Strs: []string{fits}}, {Kind: Sync}}, false},
		"second is broken": {[]Step{{Kind: Sync}, {Kind: kindEnd}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Append(nil, c.steps)
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				if len(b) > MaxBytes {
					t.Fatalf("%d bytes", len(b))
				}
				if out, err := decode(b); err != nil || !equal(c.steps, out) {
					t.Fatalf("got %v, %v", out, err)
				}
			} else if last := fmt.Sprintf("step %d ", len(c.steps)-1); !strings.Contains(err.Error(), last) {
				t.Errorf("%v does not name %s", err, last)
			}
		})
	}
}

func FuzzAppend(f *testing.F) {
	f.Add(uint16(Exec), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, "sh", "a\x00b\x00")
	f.Fuzz(func(t *testing.T, kind uint16, raw []byte, s0, s1 string) {
		in := []Step{{Kind: Kind(kind), Strs: []string{s0, s1}}, {Kind: Sync}}
		for ; len(raw) >= 8; raw = raw[8:] {
			in[0].Nums = append(in[0].Nums, binary.LittleEndian.Uint64(raw))
		}
		b, err := Append(nil, in)
		if err != nil {
			return
		}
		if out, err := decode(b); err != nil || !equal(in, out) {
			t.Fatalf("%v became %v, %v", in, out, err)
		}
	})
}
