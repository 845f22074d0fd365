package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc/session"
)

// deadline turns a hang into a failure.
const deadline = 30 * time.Second

func bounded(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(stop)
	return ctx
}

// stream is a Unix socket with the non-blocking write that real connections have.
type stream struct{ *os.File }

func (s stream) TryWrite(p []byte) (n int, err error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	werr := raw.Write(func(fd uintptr) bool {
		n, err = unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return true
	})
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	return max(n, 0), errors.Join(werr, err)
}

func sockets(t testing.TB) (a, b io.ReadWriteCloser) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return stream{os.NewFile(uintptr(fds[0]), "host")}, stream{os.NewFile(uintptr(fds[1]), "program")}
}

func pipes(testing.TB) (a, b io.ReadWriteCloser) { return net.Pipe() }

// pair is a session's two ends.
func pair(t testing.TB, transport func(testing.TB) (a, b io.ReadWriteCloser), host, program session.Options) (h, p *session.Session) {
	t.Helper()
	a, b := transport(t)
	ctx := bounded(t)
	var joined sync.WaitGroup
	joined.Go(func() {
		var err error
		if p, _, err = session.Join(ctx, b, session.Hello{SDK: "test"}, program); err != nil {
			t.Error(err)
		}
	})
	arrival, err := session.Receive(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	host.Self = session.Ref{ID: "0", Name: "host"}
	if h, err = arrival.Welcome(ctx, session.Welcome{Self: session.Ref{ID: "0.1", Name: "worker"}, Epoch: 1}, host); err != nil {
		t.Fatal(err)
	}
	joined.Wait()
	t.Cleanup(func() {
		h.Close()
		p.Close()
	})
	return h, p
}

// both runs f on both transports.
func both(t *testing.T, f func(t *testing.T, transport func(testing.TB) (a, b io.ReadWriteCloser))) {
	t.Run("socket", func(t *testing.T) { f(t, sockets) })
	t.Run("pipe", func(t *testing.T) { f(t, pipes) })
}

func TestCalls(t *testing.T) {
	both(t, func(t *testing.T, transport func(testing.TB) (a, b io.ReadWriteCloser)) {
		var host, program session.Mux
		session.Handle(&program, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
		session.Handle(&program, "echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
		session.Handle(&host, "half", func(_ context.Context, n int) (int, error) { return n / 2, nil })
		h, p := pair(t, transport, session.Options{Mux: &host}, session.Options{Mux: &program})
		ctx := bounded(t)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if got, err := session.Call[int, int](ctx, h, "double", i); err != nil || got != 2*i {
					t.Errorf("double %d: %d, %v", i, got, err)
				}
			})
			all.Go(func() {
				if got, err := session.Call[int, int](ctx, p, "half", i); err != nil || got != i/2 {
					t.Errorf("half %d: %d, %v", i, got, err)
				}
			})
		}
		big := []byte(strings.Repeat("x", 1<<20-64))
		all.Go(func() {
			if got, err := session.Call[[]byte, []byte](ctx, h, "echo", big); err != nil || len(got) != len(big) {
				t.Errorf("echo: %d bytes, %v", len(got), err)
			}
		})
		all.Wait()
		if err := h.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestStreams(t *testing.T) {
	both(t, func(t *testing.T, transport func(testing.TB) (a, b io.ReadWriteCloser)) {
		var program session.Mux
		session.HandleStream(&program, "count", func(ctx context.Context, n int, s session.ServerStream[int, int]) (string, error) {
			if err := s.Started(ctx, n); err != nil {
				return "", err
			}
			sent := make(chan error, 1)
			go func() {
				for i := range n {
					if err := s.Send(ctx, i); err != nil {
						sent <- err
						return
					}
				}
				sent <- s.CloseSend()
			}()
			sum := 0
			for v, err := range s.All(ctx) {
				if err != nil {
					return "", err
				}
				sum += v
			}
			return fmt.Sprint(sum), <-sent
		})
		h, _ := pair(t, transport, session.Options{}, session.Options{Mux: &program})
		ctx := bounded(t)
		const n = 20000 // many windows
		s, err := session.OpenStream[int, int](ctx, h, "count", n)
		if err != nil {
			t.Fatal(err)
		}
		var first int
		if err := s.Started(ctx, &first); err != nil || first != n {
			t.Fatal(first, err)
		}
		next := 0
		for v, err := range s.All(ctx) {
			if err != nil || v != next {
				t.Fatal(v, next, err)
			}
			if err := s.Send(ctx, v); err != nil {
				t.Fatal(err)
			}
			next++
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		var sum string
		if err := s.Result(ctx, &sum); err != nil || sum != fmt.Sprint(n*(n-1)/2) {
			t.Fatal(sum, err)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	var program session.Mux
	session.Handle(&program, "echo", func(_ context.Context, p []byte) ([]byte, error) { return p, nil })
	h, _ := pair(b, sockets, session.Options{}, session.Options{Mux: &program})
	for _, size := range []int{64, 4 << 10, 64 << 10, 1<<20 - 64} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := session.Call[[]byte, []byte](context.Background(), h, "echo", p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
