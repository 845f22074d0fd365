// Package callbench measures what a call costs beside what its socket costs, in
// one process and in turns, so that whatever else the machine does slows all alike.
//
//	figures, err := callbench.Measure(ctx, 50)
//
// Non-goals: other programs' calls; latency between two machines.
package callbench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/ipc/session"
	"sandboxd/ipc/wire"
)

// Figure is what one operation of a subject takes.
type Figure struct {
	Name   string        `json:"name"`
	Bytes  int           `json:"bytes"` // of the payload, one way
	Min    time.Duration `json:"min_ns"`
	Median time.Duration `json:"median_ns"`
}

// subject does an operation n times.
type subject struct {
	name  string
	bytes int
	n     int
	do    func(n int) error
}

// Measure takes so many rounds, in each of which every subject has its turn.
func Measure(ctx context.Context, rounds int) (figures []Figure, err error) {
	b := &bench{ctx: ctx}
	defer b.close()
	var all []subject
	for _, s := range []struct{ bytes, n int }{{64, 50}, {4 << 10, 50}, {64 << 10, 20}, {1<<20 - 64, 4}} {
		all = append(all, subject{"raw ping-pong", s.bytes, s.n, b.raw(s.bytes)}, subject{"framed ping-pong", s.bytes, s.n, b.framed(s.bytes)}, subject{"call", s.bytes, s.n, b.call(s.bytes)})
	}
	all = append(all, subject{"item of a stream", 64, 20000, b.stream(64)})
	if b.err != nil {
		return nil, b.err
	}
	took := make([][]time.Duration, len(all))
	for round := range rounds + 1 {
		for i, s := range all {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			began := time.Now()
			if err := s.do(s.n); err != nil {
				return nil, fmt.Errorf("callbench: %s of %d bytes: %w", s.name, s.bytes, err)
			}
			if each := time.Since(began) / time.Duration(s.n); round > 0 { // the first is to warm up
				took[i] = append(took[i], each)
			}
		}
	}
	for i, s := range all {
		slices.Sort(took[i])
		figures = append(figures, Figure{s.name, s.bytes, took[i][0], took[i][len(took[i])/2]})
	}
	return figures, nil
}

// bench holds what is to be closed.
type bench struct {
	ctx     context.Context
	closers []io.Closer
	err     error
}

func (b *bench) close() {
	for _, c := range b.closers {
		_ = c.Close()
	}
}

// pair is two connected sockets, as actors have them.
func (b *bench) pair() (x, y *ipc.Conn) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		var err2 error
		x, err = ipc.NewConn(os.NewFile(uintptr(fds[0]), "x"))
		y, err2 = ipc.NewConn(os.NewFile(uintptr(fds[1]), "y"))
		err = errors.Join(err, err2)
	}
	if err != nil {
		b.err = errors.Join(b.err, err)
		return nil, nil
	}
	b.closers = append(b.closers, x, y)
	return x, y
}

// raw sends so many bytes there and back.
func (b *bench) raw(size int) func(int) error {
	x, y := b.pair()
	if x == nil {
		return nil
	}
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
	return func(n int) error {
		for range n {
			if _, err := x.Write(buf); err != nil {
				return err
			}
			if _, err := io.ReadFull(x, buf); err != nil {
				return err
			}
		}
		return nil
	}
}

// framed is raw with a length before the bytes, and memory of its own for each message.
func (b *bench) framed(size int) func(int) error {
	x, y := b.pair()
	if x == nil {
		return nil
	}
	send := func(c *ipc.Conn, p []byte) error {
		_, err := c.Write(append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(p)), uint32(len(p))), p...))
		return err
	}
	recv := func(c *ipc.Conn) ([]byte, error) {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil, err
		}
		p := make([]byte, binary.LittleEndian.Uint32(head[:]))
		_, err := io.ReadFull(c, p)
		return p, err
	}
	go func() {
		for {
			p, err := recv(y)
			if err != nil || send(y, p) != nil {
				return
			}
		}
	}()
	buf := make([]byte, size)
	return func(n int) error {
		for range n {
			if err := send(x, buf); err != nil {
				return err
			}
			if _, err := recv(x); err != nil {
				return err
			}
		}
		return nil
	}
}

// meet is a supervisor's session with a program that serves m.
func (b *bench) meet(m *session.Mux) *session.Session {
	x, y := b.pair()
	if x == nil {
		return nil
	}
	joined := make(chan error, 1)
	go func() {
		_, _, err := session.Join(b.ctx, y, session.Hello{SDK: "bench"}, session.Options{Mux: m})
		joined <- err
	}()
	arrival, err := session.Receive(b.ctx, x)
	if err == nil {
		var s *session.Session
		if s, err = arrival.Welcome(b.ctx, session.Welcome{Self: session.Ref{ID: "1"}, Epoch: 1}, session.Options{}); err == nil {
			if err = <-joined; err == nil {
				b.closers = append(b.closers, s)
				return s
			}
		}
	}
	b.err = errors.Join(b.err, err)
	return nil
}

func (b *bench) call(size int) func(int) error {
	var m session.Mux
	session.Handle(&m, "echo", func(_ context.Context, p []byte) ([]byte, error) { return p, nil })
	s := b.meet(&m)
	buf := make([]byte, size)
	return func(n int) error {
		for range n {
			if _, err := session.Call[[]byte, []byte](b.ctx, s, "echo", buf); err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *bench) stream(size int) func(int) error {
	var m session.Mux
	m.Add("pour", session.Dialog, func(ctx context.Context, c *session.Inbound) ([]byte, error) {
		item := wire.AppendBytes(nil, make([]byte, size-2))
		err := c.Stream().Start(ctx, nil)
		for err == nil {
			err = c.Stream().Send(ctx, item)
		}
		return nil, err
	})
	s := b.meet(&m)
	if s == nil {
		return nil
	}
	d, err := s.Open(b.ctx, "pour", nil)
	if err != nil {
		b.err = errors.Join(b.err, err)
	}
	return func(n int) error {
		for range n {
			if _, err := d.Recv(b.ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
