package session

import (
	"context"
	"io"
	"sync"
)

// writer sends frames, whole and in order, and never blocks on the peer. Whoever
// finds nobody writing writes, without waiting; what the socket does not take at
// once, a goroutine brings there. While it does, frames gather, and leave with
// one write.
type writer struct {
	rw     io.Writer
	try    interface{ TryWrite([]byte) (int, error) } // nil: rw cannot write without waiting
	cap    int
	broken func(error) // told, once, that nothing more can be sent

	mu    sync.Mutex
	parts []part        // what nobody is writing yet
	size  int           // bytes of it
	owned bool          // the last part is ours, and more may be added to it
	empty []part        // for parts
	spare []byte        // for the next part
	busy  bool          // somebody writes
	last  bool          // EXIT was put: nothing may follow
	room  chan struct{} // closed when parts have left; nil: nobody waits
	err   error
}

// part is bytes of one frame or more.
type part struct {
	b    []byte
	ours bool // to be recycled when it was sent
}

const (
	highWater = 256 << 10 // bytes that may gather before callers wait
	flood     = 1 << 20   // bytes of answers beyond that at which a peer that does not read them is cut off
	byPart    = 32 << 10  // bytes of a payload that is sent from where it is
	keep      = 64 << 10  // bytes of memory that is kept for what comes next
)

func newWriter(l *link, broken func(error)) *writer {
	w := &writer{rw: l.rw, cap: l.cap, broken: broken}
	w.try, _ = l.rw.(interface{ TryWrite([]byte) (int, error) })
	return w
}

// full is closed when there may be room again; nil if there is now. Callers that
// hold Session.mu from here to put share the room, and do not overrun it together.
func (w *writer) full() (<-chan struct{}, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return nil, w.err
	case w.size <= highWater:
		return nil, nil
	}
	return w.waitLocked(), nil
}

func (w *writer) waitLocked() <-chan struct{} {
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room
}

// put adds a frame to what gathers, room or not. If nobody writes, the caller is
// to: it calls write, or later. The payload is not copied where it is large.
func (w *writer) put(m *message) (write bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.last {
		return false, lost(ErrExited)
	}
	if w.err == nil && w.size > highWater+flood+w.cap {
		w.failLocked(violation("it asks and does not read the answers"))
	}
	if w.err != nil {
		return false, w.err
	}
	if err := w.addLocked(m); err != nil {
		return false, err
	}
	w.last = m.kind == exit
	write, w.busy = !w.busy, true
	return write, nil
}

func (w *writer) addLocked(m *message) error {
	switch {
	case !w.owned && w.size == 0:
		w.parts, w.owned, w.spare = append(w.parts[:0], part{b: w.spare[:0]}), true, nil
	case !w.owned, len(w.parts[len(w.parts)-1].b) > byPart-512: // so that none grows, which is to copy it
		b := buffer(byPart)
		if b == nil {
			b = make([]byte, 0, byPart)
		}
		w.parts, w.owned = append(w.parts, part{b, true}), true
	}
	p := &w.parts[len(w.parts)-1]
	before := len(p.b)
	b, err := m.frame(p.b, w.cap)
	if p.b = b; err != nil {
		return err
	}
	w.size += len(b) - before
	if m.large() {
		w.parts, w.owned = append(w.parts, part{m.payload, m.ours}), false
		w.size += len(m.payload)
	} else if m.ours {
		recycle(m.payload)
	}
	return nil
}

// answer sends what must not wait: the dispatcher's answers.
func (w *writer) answer(m *message) error {
	write, err := w.put(m)
	if write {
		w.write()
	}
	return err
}

func (w *writer) wakeLocked() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// failLocked ends all sending, for the first reason that there is.
func (w *writer) failLocked(err error) {
	if w.err == nil {
		w.err = err
		w.broken(err)
	}
	w.busy, w.parts, w.size, w.owned = false, nil, 0, false
	w.wakeLocked()
}

// fail ends all sending from outside.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.wakeLocked()
}

// exited tells whether EXIT was put.
func (w *writer) exited() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// flushed waits until all that was sent has been written, or ctx ends.
func (w *writer) flushed(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.busy && w.err == nil {
		room := w.waitLocked()
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		w.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return w.err
}
