package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"sandboxd/ipc/wire"
)

// link reads frames from a connection, and writes them while no writer does.
type link struct {
	rw  io.ReadWriteCloser
	r   *bufio.Reader
	cap int // bytes of the largest body
}

func newLink(rw io.ReadWriteCloser) *link {
	return &link{rw: rw, r: bufio.NewReaderSize(rw, 64<<10), cap: helloCap}
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

// read reads one frame and checks the structure of its body, which is the
// caller's. Memory grows with the bytes that arrive.
func (l *link) read() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(l.r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n == 0 || n > l.cap {
		return nil, violation("a frame of %d bytes, want 1 to %d", n, l.cap)
	}
	const step = 64 << 10
	body := make([]byte, min(n, step))
	for have := 0; ; {
		if _, err := io.ReadFull(l.r, body[have:]); err != nil {
			return nil, fmt.Errorf("in a frame of %d bytes: %w", n, noEOF(err))
		}
		if have = len(body); have == n {
			break
		}
		grown := make([]byte, min(n, 4*have))
		copy(grown, body)
		body = grown
	}
	if err := wire.Check(body, wire.Limits{}); err != nil {
		return nil, violation("a frame of %d bytes: %w", n, err)
	}
	return body, nil
}

// noEOF tells an end inside of a frame from one between two.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // as io.ReadFull returns it
		return io.ErrUnexpectedEOF
	}
	return err
}

// writer sends frames, whole and in order, and never blocks on the peer for
// longer than its caller's context. Whoever finds nobody writing writes, without
// waiting; what the socket does not take at once, a goroutine brings there.
// While it does, frames gather, and leave with one write.
type writer struct {
	rw  io.Writer
	try interface{ TryWrite([]byte) (int, error) } // nil: rw cannot write without waiting
	cap int

	mu    sync.Mutex
	buf   []byte // frames that nobody is writing yet
	spare []byte
	busy  bool          // somebody writes
	room  chan struct{} // closed when buf has room again; nil: nobody waits
	err   error
}

const (
	highWater = 256 << 10 // bytes that may gather before callers wait
	flood     = 4 << 20   // bytes of answers at which a peer that does not read is cut off
)

func newWriter(l *link) *writer {
	w := &writer{rw: l.rw, cap: l.cap}
	w.try, _ = l.rw.(interface{ TryWrite([]byte) (int, error) })
	return w
}

// send puts m on its way. It waits for room as long as ctx lets it.
func (w *writer) send(ctx context.Context, m *message) error {
	if err := w.wait(ctx); err != nil {
		return err
	}
	return w.answer(m)
}

// wait waits until not too much has gathered.
func (w *writer) wait(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && len(w.buf) > highWater {
		if err := w.sleepLocked(ctx); err != nil {
			return err
		}
	}
	return w.err
}

// sleepLocked waits for the next wakeLocked.
func (w *writer) sleepLocked(ctx context.Context) error {
	if w.room == nil {
		w.room = make(chan struct{})
	}
	room := w.room
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answer is send for what must not wait: the dispatcher's answers and cancels.
func (w *writer) answer(m *message) error {
	write, err := w.put(m)
	if write {
		return w.write()
	}
	return err
}

// put adds a frame to what gathers. If nobody writes, the caller is to: it calls write.
func (w *writer) put(m *message) (write bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && len(w.buf) > flood {
		w.err = violation("it asks and does not read the answers")
	}
	if w.err != nil {
		return false, w.err
	}
	if w.buf, err = frame(w.buf, w.cap, m.append); err != nil || w.busy {
		return false, err
	}
	w.busy = true
	return true, nil
}

// write sends what has gathered, as far as the socket takes it without waiting;
// a goroutine brings the rest. Precondition: put told the caller to.
func (w *writer) write() error {
	if w.try == nil {
		go w.drain(nil)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for rounds := 0; w.err == nil && len(w.buf) > 0; rounds++ {
		b := w.takeLocked()
		n := 0
		var err error
		if rounds < 4 { // others keep on adding: they are not this caller's work
			w.mu.Unlock()
			n, err = w.try.TryWrite(b)
			w.mu.Lock()
		}
		if err != nil {
			w.failLocked(err)
			return w.err
		}
		if n < len(b) {
			go w.drain(b[n:])
			return nil
		}
		w.keepLocked(b)
	}
	w.busy = false
	w.wakeLocked()
	return w.err
}

// drain writes rest and then whatever has gathered, until nothing has.
func (w *writer) drain(rest []byte) {
	for {
		if len(rest) > 0 {
			if _, err := w.rw.Write(rest); err != nil {
				w.mu.Lock()
				w.failLocked(err)
				w.mu.Unlock()
				return
			}
		}
		w.mu.Lock()
		w.keepLocked(rest)
		if len(w.buf) == 0 || w.err != nil {
			w.busy = false
			w.wakeLocked()
			w.mu.Unlock()
			return
		}
		rest = w.takeLocked()
		w.mu.Unlock()
	}
}

// takeLocked takes what has gathered.
func (w *writer) takeLocked() []byte {
	b := w.buf
	w.buf, w.spare = w.spare[:0], nil
	w.wakeLocked()
	return b
}

// keepLocked keeps memory that was written for the next frames, unless it is a lot.
func (w *writer) keepLocked(b []byte) {
	if cap(b) <= highWater && cap(b) > cap(w.spare) {
		w.spare = b[:0]
	}
}

func (w *writer) wakeLocked() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

func (w *writer) failLocked(err error) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	w.busy, w.buf = false, nil
	w.wakeLocked()
}

// fail ends all sending, now and later.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.wakeLocked()
}

// flushed waits until all that was sent has been written, or ctx ends.
func (w *writer) flushed(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy && w.err == nil {
		if err := w.sleepLocked(ctx); err != nil {
			return err
		}
	}
	return w.err
}
