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
	rw   io.ReadWriteCloser
	r    *bufio.Reader
	cap  int    // bytes of the largest body
	size int    // bytes of the body that is being read; 0: none is
	body []byte // what is there of it, and room for some of the rest
	have int    // bytes that are there
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
// caller's. Memory grows with the bytes that arrive. After os.ErrDeadlineExceeded
// it can be called again, and goes on where it was.
func (l *link) read() ([]byte, error) {
	if l.size == 0 {
		if err := l.head(); err != nil {
			return nil, err
		}
	}
	for {
		n, err := io.ReadFull(l.r, l.body[l.have:])
		if l.have += n; err != nil {
			return nil, fmt.Errorf("in a frame of %d bytes: %w", l.size, noEOF(err))
		}
		if l.have == l.size {
			break
		}
		grown := room(min(l.size, 16*l.have))
		copy(grown, l.body)
		l.body = grown
	}
	body := l.body
	l.size, l.body, l.have = 0, nil, 0
	if err := wire.Check(body, wire.Limits{}); err != nil {
		return nil, violation("a frame of %d bytes: %w", len(body), err)
	}
	return body, nil
}

// head reads how long the next body is, and makes room for its beginning.
func (l *link) head() error {
	head, err := l.r.Peek(4)
	if err != nil {
		if len(head) > 0 {
			err = noEOF(err)
		}
		return err
	}
	n := int64(binary.LittleEndian.Uint32(head))
	if n == 0 || n > int64(l.cap) {
		return violation("a frame of %d bytes, want 1 to %d", n, l.cap)
	}
	_, _ = l.r.Discard(4) // they are there
	const step = 64 << 10
	l.size = int(n)
	if l.size >= worth {
		l.body = buffer(l.size)
	}
	if l.body != nil {
		l.body = l.body[:l.size]
	} else {
		l.body = room(min(l.size, step))
	}
	return nil
}

// room makes n bytes, and some more where they may become a buffer, since each use takes the head of a frame away.
func room(n int) []byte {
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
