package codec

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// shared is what both implementations encode alike: theirs makes other things
// of arrays of bytes, of text and of durations.
type shared struct {
	Name   string             `msgpack:"name"`
	Small  int                `msgpack:"small"`
	Large  uint64             `msgpack:"large"`
	Neg    int64              `msgpack:"neg"`
	Real   float64            `msgpack:"real"`
	Single float32            `msgpack:"single"`
	Yes    bool               `msgpack:"yes"`
	Body   []byte             `msgpack:"body"`
	List   []int32            `msgpack:"list"`
	Names  []string           `msgpack:"names"`
	Map    map[string]string  `msgpack:"map"`
	Reals  map[string]float64 `msgpack:"reals"`
	When   time.Time          `msgpack:"when"`
	Ptr    *shared            `msgpack:"ptr"`
	Maybe  int                `msgpack:"maybe,omitempty"`
}

func samples() []shared {
	when := time.Unix(1_700_000_000, 123).UTC()
	return []shared{
		{When: when},
		{"n", 127, math.MaxUint64, math.MinInt64, math.Pi, 0.5, true, []byte{}, []int32{}, []string{}, map[string]string{}, nil, when, nil, 0},
		{
			strings.Repeat("long", 100), 128, 1 << 32, -33, math.Copysign(0, -1), float32(math.Inf(1)), false, make([]byte, 300),
			[]int32{-1, 0, 255, 256, -32769},
			[]string{"", strings.Repeat("x", 31), strings.Repeat("x", 32)},
			map[string]string{"b": "1", "a": "2", "ab": "3"},
			map[string]float64{"x": 1},
			time.Unix(1<<35, 0).UTC(), &shared{Name: "inner", When: when, Maybe: 7}, -1,
		},
	}
}

func theirs(t *testing.T, v any, compact bool) []byte {
	t.Helper()
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(compact)
	enc.SetSortMapKeys(true)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestOracle: another implementation reads what we write, and we what it does;
// in its compact form the bytes are the same.
func TestOracle(t *testing.T) {
	for i, want := range samples() {
		ours, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if compact := theirs(t, want, true); !bytes.Equal(ours, compact) {
			t.Errorf("sample %d: ours\n%x, theirs\n%x", i, ours, compact)
		}
		var read shared
		if err := msgpack.Unmarshal(ours, &read); err != nil || !sameAs(read, want) {
			t.Errorf("sample %d: they read %+v, %v", i, read, err)
		}
		for _, compact := range []bool{false, true} {
			var got shared
			if err := Unmarshal(theirs(t, want, compact), &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("sample %d, compact %v: we read %+v, %v", i, compact, got, err)
			}
		}
	}
}

// sameAs compares but for the location that they give to a time.
func sameAs(a, b shared) bool {
	a.When = a.When.UTC()
	if a.Ptr != nil {
		inner := *a.Ptr
		inner.When = inner.When.UTC()
		a.Ptr = &inner
	}
	return reflect.DeepEqual(a, b)
}

// TestOracleGuesses pins what we refuse and they let pass, changed.
func TestOracleGuesses(t *testing.T) {
	var small uint8
	var large uint64
	var list []int
	for _, c := range []struct {
		in   string
		into any
		got  any
	}{
		{"\xcd\x01\x2c", &small, uint8(44)},
		{"\xff", &large, uint64(math.MaxUint64)},
		{"\x90\x07", &list, []int{}},
	} {
		if err := msgpack.Unmarshal([]byte(c.in), c.into); err != nil || !reflect.DeepEqual(reflect.ValueOf(c.into).Elem().Interface(), c.got) {
			t.Errorf("they read %x as %v, %v", c.in, reflect.ValueOf(c.into).Elem(), err)
		}
		if err := Unmarshal([]byte(c.in), c.into); err == nil {
			t.Errorf("we read %x as %v", c.in, reflect.ValueOf(c.into).Elem())
		}
	}
}
