package wire

import (
	"strings"
	"testing"
)

// frame is a message of 80 bytes such as actors send: an array with a map in it.
func frame() []byte {
	b := AppendArrayHead(nil, 5)
	b = AppendUint(b, 7)
	b = AppendUint(b, 70000)
	b = AppendStr(b, "render")
	b = AppendMapHead(b, 3)
	b = AppendStr(b, "width")
	b = AppendUint(b, 640)
	b = AppendStr(b, "scale")
	b = AppendFloat64(b, 1.5)
	b = AppendStr(b, "tags")
	b = AppendArrayHead(b, 2)
	b = AppendStr(b, "a")
	b = AppendStr(b, "b")
	return AppendBytes(b, make([]byte, 25))
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"frame", frame()},
		{"strings", []byte("\xdc\x00\xc8" + strings.Repeat("\xa4four", 200))},
		{"deep", []byte(strings.Repeat("\x91", 32) + "\x01")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.in)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(c.in, Limits{Depth: 33}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScanner(b *testing.B) {
	in := frame()
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner(in)
		s.Array()
		s.Uint(127)
		s.Uint(1 << 20)
		s.StrBytes(32)
		s.Raw()
		s.Bytes(100)
		if err := s.Done(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendUint(AppendStr(AppendArrayHead(buf[:0], 3), "render"), 70000)
		buf = AppendBytes(buf, buf)
	}
}
