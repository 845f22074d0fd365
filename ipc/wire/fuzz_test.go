package wire

import (
	"runtime/metrics"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// record is a typed target of the size and shape that messages have.
type record struct {
	ID   uint64
	Name string
	Body []byte
	Tags map[string]string
	Next []record
}

// allocated returns the bytes ever allocated on the heap, without stopping it.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// FuzzCheck holds Check to its promise: what it accepts, an unguarded decoder
// takes apart without dying and in memory proportional to the input.
func FuzzCheck(f *testing.F) {
	for _, k := range killers {
		if len(k.in) <= 128<<10 { // larger ones are run by TestCheckRefuses; as seeds they only slow mutation
			f.Add(k.in)
		}
	}
	f.Add(small)
	f.Add(strings)
	f.Add(all())
	if b, err := msgpack.Marshal([]record{{ID: 1, Name: "a", Body: []byte("b"), Tags: map[string]string{"k": "v"}, Next: []record{{}}}}); err != nil {
		f.Fatal(err)
	} else {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Check(b, Limits{}) != nil {
			return
		}
		targets := map[string]func() error{
			"any":       func() error { var v any; return msgpack.Unmarshal(b, &v) },
			"[]any":     func() error { var v []any; return msgpack.Unmarshal(b, &v) },
			"[]int64":   func() error { var v []int64; return msgpack.Unmarshal(b, &v) },
			"[]string":  func() error { var v []string; return msgpack.Unmarshal(b, &v) },
			"[]byte":    func() error { var v []byte; return msgpack.Unmarshal(b, &v) },
			"map":       func() error { var v map[string]any; return msgpack.Unmarshal(b, &v) },
			"record":    func() error { var v record; return msgpack.Unmarshal(b, &v) },
			"[]record":  func() error { var v []record; return msgpack.Unmarshal(b, &v) },
			"[]*record": func() error { var v []*record; return msgpack.Unmarshal(b, &v) },
			"raw":       func() error { var v msgpack.RawMessage; return msgpack.Unmarshal(b, &v) },
		}
		for name, decode := range targets {
			before := allocated()
			err := decode()
			// The dearest byte is an element of []record (96 bytes, times the
			// growth of a slice) or a one-pair map; 1 MiB covers what the
			// runtime and the fuzzing engine allocate beside us.
			if got, bound := allocated()-before, uint64(1<<20+1024*len(b)); got > bound {
				t.Errorf("%s: %d input bytes made %d allocated bytes, bound %d (decode: %v)", name, len(b), got, bound, err)
			}
			if name == "any" && err != nil {
				t.Errorf("accepted, but no msgpack value to the library: %v", err)
			}
		}
	})
}
