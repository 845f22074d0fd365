package wire

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// oracle encodes v in the shortest forms of another implementation.
func oracle(t *testing.T, v any) []byte {
	t.Helper()
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestCompactForms: at every boundary between two forms the bytes are those of
// another implementation, and both it and the Scanner read them back.
func TestCompactForms(t *testing.T) {
	for _, n := range []int64{
		0, 1, 127, 128, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxInt64,
		-1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64,
	} {
		b := AppendInt(nil, n)
		if want := oracle(t, n); !bytes.Equal(b, want) {
			t.Errorf("%d is %x, want %x", n, b, want)
		}
		if got, err := scan(string(b), (*Scanner).Int); got != n || err != nil {
			t.Errorf("%d read back as %d, %v", n, got, err)
		}
		if n >= 0 && !bytes.Equal(b, AppendUint(nil, uint64(n))) {
			t.Errorf("%d differs as uint", n)
		}
	}
	if b, want := AppendUint(nil, math.MaxUint64), oracle(t, uint64(math.MaxUint64)); !bytes.Equal(b, want) {
		t.Errorf("the largest uint is %x, want %x", b, want)
	}
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 1 << 20} {
		s := strings.Repeat("x", n)
		if got, want := AppendStr(nil, s), oracle(t, s); !bytes.Equal(got, want) {
			t.Errorf("str of %d begins %x, want %x", n, got[:5], want[:5])
		}
		if got, want := AppendBytes(nil, []byte(s)), oracle(t, []byte(s)); !bytes.Equal(got, want) {
			t.Errorf("bin of %d begins %x, want %x", n, got[:5], want[:5])
		}
		if got, want := AppendArrayHead(nil, n), oracle(t, make([]any, n)); !bytes.HasPrefix(want, got) || len(want) != len(got)+n {
			t.Errorf("array of %d is %x, want %x", n, got, want[:5])
		}
		var buf bytes.Buffer
		if err := msgpack.NewEncoder(&buf).EncodeMapLen(n); err != nil {
			t.Fatal(err)
		}
		if got := AppendMapHead(nil, n); !bytes.Equal(got, buf.Bytes()) {
			t.Errorf("map of %d is %x, want %x", n, got, buf.Bytes())
		}
	}
	for v, got := range map[any][]byte{
		nil: AppendNil(nil), true: AppendBool(nil, true), false: AppendBool(nil, false),
		1.5: AppendFloat64(nil, 1.5), float32(1.5): AppendFloat32(nil, 1.5),
	} {
		if want := oracle(t, v); !bytes.Equal(got, want) {
			t.Errorf("%v is %x, want %x", v, got, want)
		}
	}
}

func TestCompactTimes(t *testing.T) {
	for _, v := range []time.Time{
		{},
		time.Unix(0, 0), time.Unix(1, 1), time.Unix(math.MaxUint32, 0), time.Unix(math.MaxUint32+1, 0),
		time.Unix(1<<34-1, 999_999_999), time.Unix(1<<34, 0), time.Unix(-1, 5), time.Unix(MinTime, 0), time.Unix(MaxTime, 999_999_999),
		time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("east", 3600)),
	} {
		b := AppendTime(nil, v)
		if err := Check(b, Limits{}); err != nil {
			t.Errorf("%v: %v", v, err)
		}
		got, err := scan(string(b), (*Scanner).Time)
		if err != nil || !got.Equal(v) || got.Location() != time.UTC {
			t.Errorf("%v read back as %v, %v", v, got, err)
		}
		var theirs time.Time
		if err := msgpack.Unmarshal(b, &theirs); err != nil || !theirs.Equal(v) {
			t.Errorf("%v is %v to another implementation, %v", v, theirs, err)
		}
		if got, err := scan(string(oracle(t, v)), (*Scanner).Time); err != nil || !got.Equal(v) {
			t.Errorf("%v of another implementation is %v, %v", v, got, err)
		}
	}
}
