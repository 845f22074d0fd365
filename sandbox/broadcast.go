package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
)

// ErrLagged is wrapped by a LaggedError.
var ErrLagged = errors.New("the reader is too slow")

// LaggedError tells a reader of a Broadcast how many values it has missed. It goes on with the oldest one that is kept.
type LaggedError struct{ Missed uint64 }

func (e *LaggedError) Error() string { return fmt.Sprintf("%d values missed: %v", e.Missed, ErrLagged) }

// Unwrap is ErrLagged.
func (e *LaggedError) Unwrap() error { return ErrLagged }

// Broadcast gives every value to many readers. It keeps the newest values for
// those that are slower, never waits for one, and tells those that are too slow
// what they have missed.
type Broadcast[T any] struct {
	mu     sync.Mutex
	keep   uint64
	ring   []T    // grows up to keep
	next   uint64 // number of the next value
	closed bool
	more   chan struct{} // closed at the next value, or the end; nil: nobody waits
}

// NewBroadcast makes one that keeps so many values, 1 at least.
func NewBroadcast[T any](keep int) *Broadcast[T] {
	return &Broadcast[T]{keep: uint64(max(keep, 1))}
}

// Send gives v to every reader. After Close it does nothing.
func (b *Broadcast[T]) Send(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if uint64(len(b.ring)) < b.keep {
		b.ring = append(b.ring, v)
	} else {
		b.ring[b.next%b.keep] = v
	}
	b.next++
	b.wakeLocked()
}

// wakeLocked lets all readers look again. Precondition: b.mu is held.
func (b *Broadcast[T]) wakeLocked() {
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
}

// Close ends it: readers get what is kept, and then io.EOF. A second call does nothing.
func (b *Broadcast[T]) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.wakeLocked()
}

// Subscribe is a reader of what is sent from now on. It holds nothing and need not be closed.
func (b *Broadcast[T]) Subscribe() *Subscription[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Subscription[T]{b: b, next: b.next}
}

// Subscription is one reader of a Broadcast, for one goroutine.
type Subscription[T any] struct {
	b    *Broadcast[T]
	next uint64
}

// Recv gives the next value: io.EOF after the last one, a *LaggedError, once, where some were missed.
func (s *Subscription[T]) Recv(ctx context.Context) (v T, err error) {
	for {
		s.b.mu.Lock()
		switch {
		case s.b.next-s.next > s.b.keep:
			missed := s.b.next - s.next - s.b.keep
			s.next += missed
			s.b.mu.Unlock()
			return v, &LaggedError{missed}
		case s.next < s.b.next:
			v = s.b.ring[s.next%s.b.keep]
			s.next++
			s.b.mu.Unlock()
			return v, nil
		case s.b.closed:
			s.b.mu.Unlock()
			return v, io.EOF
		}
		if s.b.more == nil {
			s.b.more = make(chan struct{})
		}
		more := s.b.more
		s.b.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}

// All are the values up to the end; a LaggedError comes with a zero value and is not the end, any other error is.
func (s *Subscription[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := s.Recv(ctx)
			if errors.Is(err, io.EOF) || !yield(v, err) || err != nil && !errors.Is(err, ErrLagged) {
				return
			}
		}
	}
}
