package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"sandboxd/ipc/wire"
)

// link reads frames from a connection, and writes those of the handshake.
type link struct {
	rw  io.ReadWriteCloser
	r   *bufio.Reader
	cap int // bytes of the largest body
}

func newLink(rw io.ReadWriteCloser) *link {
	return &link{rw: rw, r: bufio.NewReaderSize(rw, 32<<10), cap: helloCap}
}

// within runs f, and closes the connection when ctx ends first.
func (l *link) within(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() { l.rw.Close() })
	err := f()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

func (l *link) send(body func([]byte) []byte) error {
	b, err := frame(nil, l.cap, body)
	if err != nil {
		return err
	}
	_, err = l.rw.Write(b)
	return err
}

// lastWords is how long a peer that is turned away may take to be told why.
const lastWords = 100 * time.Millisecond

// refuse tells the other side why, as far as it listens, and closes.
func (l *link) refuse(why error) {
	m := message{kind: fail, err: fit(Pack(why, Ref{}), l.cap)}
	ctx, stop := context.WithTimeout(context.Background(), lastWords)
	defer stop()
	_ = l.within(ctx, func() error { return l.send(m.append) })
	l.rw.Close()
}

// read reads one frame and checks the structure of its body, which is the
// caller's. Memory grows with the bytes that arrive.
func (l *link) read() ([]byte, error) {
	head, err := l.r.Peek(4)
	if err != nil {
		if len(head) > 0 {
			err = noEOF(err)
		}
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(head))
	if n == 0 || n > int64(l.cap) {
		return nil, violation("a frame of %d bytes, want 1 to %d", n, l.cap)
	}
	_, _ = l.r.Discard(4) // they are there
	const step = 64 << 10
	var body []byte
	if n >= worth {
		body = buffer(int(n))
	}
	if body != nil {
		body = body[:n]
	} else {
		body = room(min(n, step))
	}
	for have := int64(0); ; {
		if _, err := io.ReadFull(l.r, body[have:]); err != nil {
			return nil, fmt.Errorf("in a frame of %d bytes: %w", n, noEOF(err))
		}
		if have = int64(len(body)); have == n {
			break
		}
		grown := room(min(n, 16*have))
		copy(grown, body)
		body = grown
	}
	if err := wire.Check(body, wire.Limits{}); err != nil {
		return nil, violation("a frame of %d bytes: %w", n, err)
	}
	return body, nil
}

// room makes n bytes, and some more where they may become a buffer, since each use takes the head of a frame away.
func room(n int64) []byte {
	if n < worth {
		return make([]byte, n)
	}
	return make([]byte, n, n+1024)
}

// noEOF tells an end inside of a frame from one between two.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
