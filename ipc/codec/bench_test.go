package codec

import (
	"strings"
	"testing"
)

type small struct {
	Name  string `msgpack:"name"`
	Width int    `msgpack:"width"`
	Scale float64
}

type large struct {
	Body []byte
	Text string
}

func BenchmarkMarshal(b *testing.B) {
	in := &small{"render", 640, 1.5}
	two := &large{make([]byte, 1<<20), strings.Repeat("x", 1<<20)}
	b.Run("small", func(b *testing.B) { benchMarshal(b, in) })
	b.Run("large", func(b *testing.B) { benchMarshal(b, two) })
	b.Run("list", func(b *testing.B) { benchMarshal(b, make([]int64, 1000)) })
	b.Run("map", func(b *testing.B) { benchMarshal(b, map[string]int{"a": 1, "b": 2, "c": 3}) })
}

func benchMarshal(b *testing.B, v any) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Marshal(v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	buf, in := make([]byte, 0, 64), &small{"render", 640, 1.5}
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = Append(buf[:0], in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	b.Run("small", func(b *testing.B) { benchUnmarshal(b, small{"render", 640, 1.5}) })
	b.Run("large", func(b *testing.B) { benchUnmarshal(b, large{make([]byte, 1<<20), strings.Repeat("x", 1<<20)}) })
	b.Run("list", func(b *testing.B) { benchUnmarshal(b, make([]int64, 1000)) })
	b.Run("map", func(b *testing.B) { benchUnmarshal(b, map[string]int{"a": 1, "b": 2, "c": 3}) })
}

func benchUnmarshal[T any](b *testing.B, v T) {
	in, err := Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	var out T
	b.ReportAllocs()
	for b.Loop() {
		if err := Unmarshal(in, &out); err != nil {
			b.Fatal(err)
		}
	}
}
