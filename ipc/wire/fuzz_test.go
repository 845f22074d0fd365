package wire

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

func seed(f *testing.F) {
	for _, in := range forEveryForm() {
		f.Add([]byte(in))
	}
	for _, c := range hostile {
		if len(c.in) < 1000 {
			f.Add([]byte(c.in))
		}
	}
	f.Add(frame())
	f.Add(all())
}

// FuzzCheck compares Check with a recursive reading of the format, and lets
// another implementation walk what is accepted.
func FuzzCheck(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(b, Limits{})
		rest, items, ok := skip(b, DefaultDepth)
		if ok = ok && len(rest) == 0 && items <= DefaultItems; ok != (err == nil) {
			t.Fatalf("%x: %v, by the book %v", b, err, ok)
		}
		if err != nil {
			known := false
			for _, e := range []error{ErrTruncated, ErrTrailing, ErrForm, ErrLength, ErrDepth, ErrItems} {
				known = known || errors.Is(err, e)
			}
			var at *OffsetError
			if !known || !errors.As(err, &at) || at.Offset > len(b) {
				t.Errorf("%x: error %v", b, err)
			}
			return
		}
		if raw, err := msgpack.NewDecoder(bytes.NewReader(b)).DecodeRaw(); err != nil || !bytes.Equal(raw, b) {
			t.Errorf("%x: another implementation sees %x, %v", b, raw, err)
		}
		s := NewScanner(b)
		if raw := s.Raw(); s.Done() != nil || !bytes.Equal(raw, b) {
			t.Errorf("%x: Raw is %x, %v", b, raw, s.Err())
		}
	})
}

// skip returns what follows the first value of b, and how many values that has.
func skip(b []byte, depth int) (rest []byte, items int, ok bool) {
	if len(b) == 0 {
		return nil, 0, false
	}
	c, b := b[0], b[1:]
	number := func(n int) (v uint64) {
		if ok = len(b) >= n; ok {
			for _, x := range b[:n] {
				v = v<<8 | uint64(x)
			}
			b = b[n:]
		}
		return v
	}
	body := func(n uint64) ([]byte, int, bool) {
		if n > uint64(len(b)) {
			return nil, 0, false
		}
		return b[n:], 1, true
	}
	values := func(n uint64) ([]byte, int, bool) {
		items := 1
		if depth == 0 {
			return nil, 0, false
		}
		for ; n > 0; n-- {
			var k int
			if b, k, ok = skip(b, depth-1); !ok {
				return nil, 0, false
			}
			items += k
		}
		return b, items, true
	}
	sized := func(n int, then func(uint64) ([]byte, int, bool)) ([]byte, int, bool) {
		if v := number(n); ok {
			return then(v)
		}
		return nil, 0, false
	}
	ext := func(n uint64) ([]byte, int, bool) {
		if len(b) == 0 || b[0] != 0xff || n != 4 && n != 8 && n != 12 {
			return nil, 0, false
		}
		return body(n + 1)
	}
	pairs := func(n uint64) ([]byte, int, bool) { return values(2 * n) }
	switch {
	case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return body(0)
	case c < 0x90:
		return pairs(uint64(c - 0x80))
	case c < 0xa0:
		return values(uint64(c - 0x90))
	case c < 0xc0:
		return body(uint64(c - 0xa0))
	case c >= 0xc4 && c <= 0xc6:
		return sized(1<<(c-0xc4), body)
	case c >= 0xc7 && c <= 0xc9:
		return sized(1<<(c-0xc7), ext)
	case c == 0xca, c == 0xcb:
		return body(4 << (c - 0xca))
	case c >= 0xcc && c <= 0xcf:
		return body(1 << (c - 0xcc))
	case c >= 0xd0 && c <= 0xd3:
		return body(1 << (c - 0xd0))
	case c >= 0xd4 && c <= 0xd8:
		return ext(1 << (c - 0xd4))
	case c >= 0xd9 && c <= 0xdb:
		return sized(1<<(c-0xd9), body)
	case c == 0xdc, c == 0xdd:
		return sized(2<<(c-0xdc), values)
	case c == 0xde, c == 0xdf:
		return sized(2<<(c-0xde), pairs)
	}
	return nil, 0, false
}

// FuzzScanner takes any bytes apart by their own word, and in an order that has
// nothing to do with them. Neither may panic or read beyond the end; what
// was understood has one shortest form.
func FuzzScanner(f *testing.F) {
	f.Add(frame(), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	for _, in := range forEveryForm() {
		f.Add([]byte(in), []byte{0})
	}
	f.Fuzz(func(t *testing.T, b, calls []byte) {
		s := NewScanner(b)
		for _, c := range calls {
			before := s.pos
			call(&s, c)
			if s.pos < before || s.pos > len(b) {
				t.Fatalf("%x: call %d moved from %d to %d", b, c, before, s.pos)
			}
		}
		s = NewScanner(b)
		once := shorten(&s, nil, MaxDepth)
		if s.Done() != nil {
			return
		}
		if err := Check(once, Limits{Depth: MaxDepth, Items: math.MaxInt}); err != nil || len(once) > len(b) {
			t.Fatalf("%x became %x, %v", b, once, err)
		}
		s = NewScanner(once)
		if twice := shorten(&s, nil, MaxDepth); s.Done() != nil || !bytes.Equal(once, twice) {
			t.Errorf("%x became %x, then %x, %v", b, once, twice, s.Err())
		}
	})
}

func call(s *Scanner, c byte) {
	limit := int(c) / 16
	switch c % 13 {
	case 0:
		s.Array()
	case 1:
		s.Map()
	case 2:
		s.Uint(uint64(limit))
	case 3:
		s.Int()
	case 4:
		s.Float()
	case 5:
		s.Bool()
	case 6:
		s.Str(limit)
	case 7:
		s.Bytes(limit)
	case 8:
		s.Nil()
	case 9:
		s.Raw()
	case 10:
		s.Time()
	case 11:
		s.Peek()
	case 12:
		s.StrBytes(limit)
	}
}

// shorten copies one value to b in its shortest form.
func shorten(s *Scanner, b []byte, depth int) []byte {
	n, k := 0, s.Peek()
	switch k {
	case KindNil:
		s.Nil()
		return AppendNil(b)
	case KindBool:
		return AppendBool(b, s.Bool())
	case KindInt:
		if at := *s; at.Int() < 0 && at.Err() == nil {
			return AppendInt(b, s.Int())
		}
		return AppendUint(b, s.Uint(math.MaxUint64))
	case KindFloat:
		if s.b[s.pos] == 0xca {
			return AppendFloat32(b, float32(s.Float()))
		}
		return AppendFloat64(b, s.Float())
	case KindStr:
		return AppendStr(b, s.Str(math.MaxInt))
	case KindBin:
		return AppendBytes(b, s.Bytes(math.MaxInt))
	case KindTime:
		return AppendTime(b, s.Time())
	case KindArray:
		n = s.Array()
		b = AppendArrayHead(b, n)
	case KindMap:
		n = s.Map()
		b = AppendMapHead(b, n)
		n *= 2
	case KindNone:
		s.Fail(ErrTruncated)
	}
	if depth == 0 && (k == KindArray || k == KindMap) {
		s.Fail(ErrDepth)
	}
	for ; n > 0 && s.Err() == nil; n-- {
		b = shorten(s, b, depth-1)
	}
	return b
}
