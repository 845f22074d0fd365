package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"
)

// scan reads one value with f, and says whether it was all.
func scan[T any](in string, f func(*Scanner) T) (T, error) {
	s := NewScanner([]byte(in))
	v := f(&s)
	return v, s.Done()
}

func TestScannerReadsEveryForm(t *testing.T) {
	for name, in := range forEveryForm() {
		s := NewScanner([]byte(in))
		var got any
		switch s.Peek() {
		case KindNil:
			got = s.Nil()
		case KindBool:
			got = s.Bool() == (in == "\xc3")
		case KindInt:
			n := s.Int()
			got = n == 1 || n == 127 || n == -32
		case KindFloat:
			got = s.Float() == 0
		case KindStr:
			str := s.Str(1)
			got = str == "a" || name == "empty str" && str == ""
		case KindBin:
			p := s.Bytes(1)
			got = string(p) == "a" || name == "empty bin" && len(p) == 0
		case KindArray:
			n := s.Array()
			got = n == 1 && s.Int() == 1 || name == "empty array" && n == 0
		case KindMap:
			n := s.Map()
			got = n == 1 && s.Int() == 1 && s.Int() == 2 || name == "empty map" && n == 0
		case KindTime:
			got = s.Time().Equal(time.Unix(1, 0))
		}
		if err := s.Done(); err != nil || got != true {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if raw, err := scan(in, (*Scanner).Raw); err != nil || string(raw) != in {
			t.Errorf("%s whole: %x, %v", name, raw, err)
		}
	}
}

func TestScannerIntegers(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
	}{
		{"\x00", 0},
		{"\x7f", 127},
		{"\xff", -1},
		{"\xe0", -32},
		{"\xcc\xff", 255},
		{"\xcd\xff\xff", 65535},
		{"\xce\xff\xff\xff\xff", math.MaxUint32},
		{"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", math.MaxInt64},
		{"\xd0\x80", -128},
		{"\xd1\x80\x00", -32768},
		{"\xd2\x80\x00\x00\x00", math.MinInt32},
		{"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", math.MinInt64},
		{"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 5},
	} {
		if got, err := scan(c.in, (*Scanner).Int); got != c.want || err != nil {
			t.Errorf("%x: %d, %v, want %d", c.in, got, err, c.want)
		}
		got, err := scan(c.in, func(s *Scanner) uint64 { return s.Uint(math.MaxUint64) })
		if c.want < 0 {
			if !errors.Is(err, ErrRange) || got != 0 {
				t.Errorf("%x as Uint: %d, %v", c.in, got, err)
			}
		} else if got != uint64(c.want) || err != nil {
			t.Errorf("%x as Uint: %d, %v", c.in, got, err)
		}
	}
	huge := "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
	if got, err := scan(huge, func(s *Scanner) uint64 { return s.Uint(math.MaxUint64) }); got != math.MaxUint64 || err != nil {
		t.Errorf("largest Uint: %d, %v", got, err)
	}
	if got, err := scan(huge, (*Scanner).Int); got != 0 || !errors.Is(err, ErrRange) {
		t.Errorf("largest Uint as Int: %d, %v", got, err)
	}
	if got, err := scan("\xcd\x01\x2c", func(s *Scanner) uint64 { return s.Uint(255) }); got != 0 || !errors.Is(err, ErrRange) {
		t.Errorf("300 up to 255: %d, %v", got, err)
	}
}

func TestScannerFloats(t *testing.T) {
	for _, c := range []struct {
		in   []byte
		want float64
		err  error
	}{
		{AppendFloat64(nil, 1.1), 1.1, nil},
		{AppendFloat32(nil, 1.5), 1.5, nil},
		{AppendFloat64(nil, math.Inf(-1)), math.Inf(-1), nil},
		{AppendInt(nil, -7), -7, nil},
		{AppendUint(nil, 1<<53), 1 << 53, nil},
		{AppendUint(nil, 1<<53+1), 0, ErrRange},
		{AppendInt(nil, -1<<53-1), 0, ErrRange},
		{AppendInt(nil, math.MinInt64), math.MinInt64, nil},
		{AppendUint(nil, 1<<63), 1 << 63, nil},
		{AppendUint(nil, math.MaxUint64), 0, ErrRange},
		{AppendStr(nil, "1"), 0, ErrForm},
		{AppendNil(nil), 0, ErrForm},
		{[]byte("\xcd\x01"), 0, ErrTruncated},
	} {
		if got, err := scan(string(c.in), (*Scanner).Float); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%x: %v, %v, want %v, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func TestScannerRefuses(t *testing.T) {
	str := func(s *Scanner) any { return s.Str(3) }
	bin := func(s *Scanner) any { return s.Bytes(3) }
	for _, c := range []struct {
		name string
		in   string
		f    func(*Scanner) any
		want error
	}{
		{"bin as str", "\xc4\x01a", str, ErrForm},
		{"str as bin", "\xa1a", bin, ErrForm},
		{"long str", "\xa4four", str, ErrRange},
		{"long bin", "\xc4\x04four", bin, ErrRange},
		{"str that is not UTF-8", "\xa1\xff", str, ErrForm},
		{"surrogate", "\xa3\xed\xa0\x80", str, ErrForm},
		{"str of 4 GiB", "\xdb\xff\xff\xff\xff", str, ErrLength},
		{"bool as int", "\xc3", func(s *Scanner) any { return s.Int() }, ErrForm},
		{"int as bool", "\x01", func(s *Scanner) any { return s.Bool() }, ErrForm},
		{"array as map", "\x91\x01", func(s *Scanner) any { return s.Map() }, ErrForm},
		{"map as array", "\x80", func(s *Scanner) any { return s.Array() }, ErrForm},
		{"array of 4 billion", "\xdd\xff\xff\xff\xff", func(s *Scanner) any { return s.Array() }, ErrLength},
		{"map of 4 billion", "\xdf\xff\xff\xff\xff\x01", func(s *Scanner) any { return s.Map() }, ErrLength},
		{"fixmap without pairs", "\x8f\x01\x02", func(s *Scanner) any { return s.Map() }, ErrLength},
		{"nothing", "", func(s *Scanner) any { return s.Int() }, ErrTruncated},
		{"unused byte", "\xc1", func(s *Scanner) any { return len(s.Raw()) }, ErrForm},
		{"nested beyond all limits", string(bytes.Repeat([]byte{0x91}, 1000)), func(s *Scanner) any { return len(s.Raw()) }, ErrDepth},
		{"other ext as time", "\xd6\x05\x00\x00\x00\x01", func(s *Scanner) any { return s.Time().Unix() }, ErrForm},
		{"nanoseconds of more than a second", "\xd7\xff\xee\x6b\x28\x00\x00\x00\x00\x00", func(s *Scanner) any { return s.Time().Unix() }, ErrRange},
		{"year 10000", string(append([]byte("\xc7\x0c\xff\x00\x00\x00\x00"), 0, 0, 0, 0x3a, 0xff, 0xf4, 0x41, 0x80)), func(s *Scanner) any { return s.Time().Unix() }, ErrRange},
		{"year 0", string(append([]byte("\xc7\x0c\xff\x00\x00\x00\x00"), 0xff, 0xff, 0xff, 0xf1, 0x88, 0x6e, 0x08, 0xff)), func(s *Scanner) any { return s.Time().Unix() }, ErrRange},
	} {
		in := []byte(c.in)
		s := NewScanner(in)
		v := c.f(&s)
		if err := s.Done(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, v, err, c.want)
		}
		if s.Peek() != KindNone {
			t.Errorf("%s: there is a %v behind the mismatch", c.name, s.Peek())
		}
		if n := testing.AllocsPerRun(10, func() { s = NewScanner(in); c.f(&s) }); n > 1 { // the result may take one
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestScannerSticks(t *testing.T) {
	s := NewScanner([]byte("\x01\x02"))
	s.Str(10)
	if s.Int() != 0 || s.Uint(9) != 0 || s.Float() != 0 || s.Bool() || s.Nil() || s.Array() != 0 || s.Map() != 0 ||
		s.Str(9) != "" || s.Bytes(9) != nil || s.Raw() != nil || !s.Time().IsZero() {
		t.Error("something was read after a mismatch")
	}
	s.Fail(fmt.Errorf("too late"))
	if err := s.Err(); !errors.Is(err, ErrForm) {
		t.Errorf("reason is %v", err)
	}
	s = NewScanner([]byte("\x01\x02"))
	mine := errors.New("no such job")
	s.Int()
	s.Fail(mine)
	if err := s.Done(); !errors.Is(err, mine) {
		t.Errorf("reason is %v", err)
	}
	s = NewScanner([]byte("\x01\x02"))
	s.Int()
	if err := s.Done(); !errors.Is(err, ErrTrailing) {
		t.Errorf("one value of two: %v", err)
	}
}

// TestScannerAliases: what is documented to be of the input is, and cannot grow
// into what follows it.
func TestScannerAliases(t *testing.T) {
	in := []byte("\x93\xc4\x02ab\x91\x01\xa1c")
	s := NewScanner(in)
	s.Array()
	bin, raw, str := s.Bytes(2), s.Raw(), s.StrBytes(1)
	if err := s.Done(); err != nil {
		t.Fatal(err)
	}
	if &bin[0] != &in[3] || &raw[0] != &in[5] || &str[0] != &in[8] {
		t.Error("a copy was made")
	}
	if cap(bin) != 2 || cap(raw) != 2 || cap(str) != 1 {
		t.Errorf("capacities are %d, %d, %d", cap(bin), cap(raw), cap(str))
	}
}
