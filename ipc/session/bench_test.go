package session

import (
	"context"
	"fmt"
	"io"
	"testing"

	"sandboxd/ipc/wire"
)

func BenchmarkCall(b *testing.B) {
	var program Mux
	Handle(&program, "echo", func(_ context.Context, p []byte) ([]byte, error) { return p, nil })
	h, _ := pair(b, sockets, Options{}, Options{Mux: &program})
	for _, size := range []int{64, 4 << 10, 64 << 10, 1<<20 - 64} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Call[[]byte, []byte](context.Background(), h, "echo", p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPingPong is what the socket itself costs: so many bytes there and back.
func BenchmarkPingPong(b *testing.B) {
	for _, size := range []int{64, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := sockets(b)
			defer x.Close()
			defer y.Close()
			go func() {
				buf := make([]byte, size)
				for {
					if _, err := io.ReadFull(y, buf); err != nil {
						return
					}
					if _, err := y.Write(buf); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := x.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(x, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStream is one item of a stream.
func BenchmarkStream(b *testing.B) {
	var program Mux
	program.Add("pour", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
		s, item := c.Stream(), wire.AppendBytes(nil, make([]byte, 62))
		if err := s.Start(ctx, nil); err != nil {
			return nil, err
		}
		for {
			if err := s.Send(ctx, item); err != nil {
				return nil, err
			}
		}
	})
	h, _ := pair(b, sockets, Options{}, Options{Mux: &program})
	s, err := h.Open(b.Context(), "pour", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Recv(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	_ = s.Cancel(nil)
}
