package session

import "fmt"

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
func (w *writer) tryParts(parts []part) (sent int, all bool, err error) {
	for _, p := range parts {
		n, err := w.try.TryWrite(p.b)
		if sent += n; err != nil || n < len(p.b) {
			return sent, false, err
		}
	}
	return sent, true, nil
}

// later leaves the writing to a goroutine, so that what comes in the meantime goes along.
func (w *writer) later() { go w.drain(nil, 0) }

// drain writes the parts, of which the first bytes were sent, and then whatever has gathered, until nothing has.
func (w *writer) drain(parts []part, sent int) {
	for {
		for _, p := range parts {
			skip := min(sent, len(p.b))
			if sent -= skip; skip == len(p.b) {
				continue
			}
			if _, err := w.rw.Write(p.b[skip:]); err != nil {
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
func (w *writer) takeLocked() []part {
	parts := w.parts
	w.parts, w.empty, w.size, w.owned = w.empty[:0], nil, 0, false
	w.wakeLocked()
	return parts
}

// keepLocked keeps the memory of what was written for what comes next.
func (w *writer) keepLocked(parts []part) {
	for i, p := range parts {
		switch {
		case p.ours:
			recycle(p.b)
		case i == 0 && w.spare == nil && cap(p.b) <= keep: // a payload is never first
			w.spare = p.b
		}
	}
	clear(parts)
	w.empty = parts[:0]
}
