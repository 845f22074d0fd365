package session

import (
	"context"
	"fmt"
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
	parts [][]byte      // what nobody is writing yet
	size  int           // bytes of it
	owned bool          // the last part is ours, and more may be added to it
	spare []byte        // for the next part
	busy  bool          // somebody writes
	last  bool          // EXIT was put: nothing may follow
	room  chan struct{} // closed when parts have left; nil: nobody waits
	err   error
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
	if !w.owned {
		w.parts, w.owned, w.spare = append(w.parts, w.spare[:0]), true, nil
	}
	part := &w.parts[len(w.parts)-1]
	before := len(*part)
	b, err := m.frame(*part, w.cap)
	*part = b
	if err != nil {
		return err
	}
	w.size += len(b) - before
	if m.large() {
		w.parts, w.owned = append(w.parts, m.payload), false
		w.size += len(m.payload)
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

// write sends what has gathered, as far as the socket takes it without waiting;
// a goroutine brings the rest. Precondition: put told the caller to.
func (w *writer) write() {
	if w.try == nil {
		w.later()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for rounds := 0; w.err == nil && w.size > 0; rounds++ {
		if rounds == 4 { // others keep on adding: they are not this caller's work
			go w.drain(nil, 0)
			return
		}
		parts := w.takeLocked()
		w.mu.Unlock()
		sent, all, err := w.tryParts(parts)
		w.mu.Lock()
		if err != nil {
			w.failLocked(fmt.Errorf("%w: %w", ErrLost, err))
			return
		}
		if !all {
			go w.drain(parts, sent)
			return
		}
		w.keepLocked(parts)
	}
	w.busy = false
	w.wakeLocked()
}

// tryParts sends as much of parts as the socket takes: so many bytes.
func (w *writer) tryParts(parts [][]byte) (sent int, all bool, err error) {
	for _, p := range parts {
		n, err := w.try.TryWrite(p)
		if sent += n; err != nil || n < len(p) {
			return sent, false, err
		}
	}
	return sent, true, nil
}

// later leaves the writing to a goroutine, so that what comes in the meantime goes along.
func (w *writer) later() { go w.drain(nil, 0) }

// drain writes the parts, of which the first bytes were sent, and then whatever has gathered, until nothing has.
func (w *writer) drain(parts [][]byte, sent int) {
	for {
		for _, p := range parts {
			skip := min(sent, len(p))
			if sent -= skip; skip == len(p) {
				continue
			}
			if _, err := w.rw.Write(p[skip:]); err != nil {
				w.mu.Lock()
				w.failLocked(fmt.Errorf("%w: %w", ErrLost, err))
				w.mu.Unlock()
				return
			}
		}
		w.mu.Lock()
		w.keepLocked(parts)
		if w.size == 0 || w.err != nil {
			w.busy = false
			w.wakeLocked()
			w.mu.Unlock()
			return
		}
		parts = w.takeLocked()
		w.mu.Unlock()
	}
}

// takeLocked takes what has gathered.
func (w *writer) takeLocked() [][]byte {
	parts := w.parts
	w.parts, w.size, w.owned = nil, 0, false
	w.wakeLocked()
	return parts
}

// keepLocked keeps the memory of what was written for what comes next, unless it is a lot or a payload.
func (w *writer) keepLocked(parts [][]byte) {
	if len(parts) == 1 && w.spare == nil && cap(parts[0]) <= keep {
		w.spare = parts[0]
	}
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
