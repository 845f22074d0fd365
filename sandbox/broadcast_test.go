package sandbox

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
)

func TestBroadcastFastAndSlowReaders(t *testing.T) {
	ctx := context.Background()
	b := NewBroadcast[int](4)
	fast, slow := b.Subscribe(), b.Subscribe()
	for i := range 10 {
		b.Send(i)
		if v, err := fast.Recv(ctx); v != i || err != nil { // the fastest loses nothing
			t.Fatal(v, err)
		}
	}
	_, err := slow.Recv(ctx)
	lagged, ok := errors.AsType[*LaggedError](err)
	if !ok || lagged.Missed != 6 || !errors.Is(err, ErrLagged) || err.Error() != "6 values missed: the reader is too slow" {
		t.Fatal(err)
	}
	for i := 6; i < 10; i++ { // told once, and goes on with the oldest that is kept
		if v, err := slow.Recv(ctx); v != i || err != nil {
			t.Fatal(v, err)
		}
	}
	b.Close()
	b.Close()
	b.Send(11)
	for _, s := range []*Subscription[int]{fast, slow, b.Subscribe()} {
		if _, err := s.Recv(ctx); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestBroadcastKeepsUpToTheEnd(t *testing.T) {
	b := NewBroadcast[int](0) // which is 1
	s := b.Subscribe()
	for i := range 3 {
		b.Send(i)
	}
	b.Close()
	var got []int
	var missed uint64
	for v, err := range s.All(context.Background()) {
		if lagged, ok := errors.AsType[*LaggedError](err); ok {
			missed += lagged.Missed
			continue
		}
		got = append(got, v)
	}
	if missed != 2 || len(got) != 1 || got[0] != 2 {
		t.Error(missed, got)
	}
}

func TestBroadcastCancelledReaderHindersNobody(t *testing.T) {
	b := NewBroadcast[int](8)
	s, other := b.Subscribe(), b.Subscribe()
	ctx, stop := context.WithCancelCause(context.Background())
	ended := make(chan error)
	go func() {
		_, err := s.Recv(ctx)
		ended <- err
	}()
	why := errors.New("why")
	stop(why)
	if err := <-ended; !errors.Is(err, why) {
		t.Error(err)
	}
	b.Send(1)
	for _, s := range []*Subscription[int]{s, other} { // it may come back
		if v, err := s.Recv(context.Background()); v != 1 || err != nil {
			t.Error(v, err)
		}
	}
}

// Readers come and go while somebody sends. What each sees has no holes but those it is told of.
func TestBroadcastChurn(t *testing.T) {
	const values = 5000
	b := NewBroadcast[int](16)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for done := false; !done; {
				s := b.Subscribe()
				last, missed := -1, 0
				for range 100 {
					v, err := s.Recv(context.Background())
					if lagged, ok := errors.AsType[*LaggedError](err); ok {
						missed += int(lagged.Missed) // it may be overtaken again before its next look
						continue
					}
					if done = err != nil; done {
						break
					}
					if last >= 0 && v != last+1+missed {
						t.Errorf("%d after %d, with %d missed", v, last, missed)
					}
					last, missed = v, 0
				}
			}
		})
	}
	for i := range values {
		b.Send(i)
	}
	b.Close()
	readers.Wait()
}
