package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// all is one message that uses every primitive.
func all() []byte {
	b := AppendArray(nil, 8)
	b = AppendFixint(b, 127)
	b = AppendUint8(b, 1)
	b = AppendUint16(b, 2)
	b = AppendUint32(b, 3)
	b = AppendUint64(b, 4)
	b = AppendStr8(b, "five")
	b = AppendBin8(b, []byte{6, 6})
	return AppendBin32(b, []byte{7})
}

type values struct {
	u8   uint8
	u16  uint16
	u32  uint32
	u64  uint64
	s    string
	bin  [2]byte
	rest []byte
}

func read(b []byte) (v values, err error) {
	r := NewReader(b)
	r.Array(8)
	r.Fixint(127)
	v.u8, v.u16, v.u32, v.u64, v.s = r.Uint8(), r.Uint16(), r.Uint32(), r.Uint64(), r.Str8()
	r.Bin8(v.bin[:])
	v.rest = r.Bin32()
	return v, r.Done()
}

func TestFixedRoundTrip(t *testing.T) {
	v, err := read(all())
	if err != nil {
		t.Fatal(err)
	}
	if v.u8 != 1 || v.u16 != 2 || v.u32 != 3 || v.u64 != 4 || v.s != "five" || v.bin != [2]byte{6, 6} || !bytes.Equal(v.rest, []byte{7}) {
		t.Errorf("read back %+v", v)
	}
}

func TestFixedIsMsgpack(t *testing.T) {
	var got []any
	if err := msgpack.Unmarshal(all(), &got); err != nil {
		t.Fatal(err)
	}
	want := []any{int8(127), uint8(1), uint16(2), uint32(3), uint64(4), "five"}
	for i, w := range want {
		if got[i] != w {
			t.Errorf("element %d is %T %v, want %T %v", i, got[i], got[i], w, w)
		}
	}
	if !bytes.Equal(got[6].([]byte), []byte{6, 6}) || !bytes.Equal(got[7].([]byte), []byte{7}) {
		t.Errorf("binary elements are %v and %v", got[6], got[7])
	}
}

func TestReaderRefuses(t *testing.T) {
	whole := all()
	for n := range whole {
		if _, err := read(whole[:n]); !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrLength) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	if _, err := read(append(whole, 0)); !errors.Is(err, ErrTrailing) {
		t.Errorf("one byte more: %v", err)
	}
	// The same values in the short forms are msgpack, but not this layout.
	compact, err := msgpack.Marshal([]any{uint8(127), uint8(1)})
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(compact)
	r.Array(2)
	r.Uint8()
	r.Uint16()
	if err := r.Done(); !errors.Is(err, ErrForm) {
		t.Errorf("other form: %v", err)
	}
}

// TestReaderAllocatesNothing: what is declared costs nothing until it is there.
func TestReaderAllocatesNothing(t *testing.T) {
	for _, in := range []string{"\xc6\xff\xff\xff\xff\x01", "\xc6\x80\x00\x00\x00", "\xc6\x00\x00\x00\x02\x01", "\xdd\xff\xff\xff\xff", ""} {
		if n := testing.AllocsPerRun(10, func() {
			r := NewReader([]byte(in))
			if r.Bin32() != nil || r.Done() == nil {
				t.Errorf("%x is accepted", in)
			}
		}); n != 0 {
			t.Errorf("%x: %v allocations", in, n)
		}
	}
}

// TestReaderSticks pins that nothing is read past the first mismatch.
func TestReaderSticks(t *testing.T) {
	r := NewReader([]byte("\xcd\x00\x01\xcc\x09"))
	r.Uint8()
	if got := r.Uint8(); got != 0 {
		t.Errorf("read %d after a mismatch", got)
	}
	if err := r.Done(); !errors.Is(err, ErrForm) {
		t.Errorf("reason is %v", err)
	}
}
