package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// lonely is a pair between which nothing goes on, so that calls run where they are read.
func lonely(t *testing.T, over transport, m *Mux) (h, p *Session) {
	t.Helper()
	Handle(m, "echo", func(_ context.Context, n int) (int, error) { return n, nil })
	h, p = pair(t, over, Options{}, Options{Mux: m})
	echo(t, h, 1)
	return h, p
}

func echo(t *testing.T, s *Session, n int) {
	t.Helper()
	if got, err := Call[int, int](bounded(t), s, "echo", n); err != nil || got != n {
		t.Errorf("echo of %d: %d, %v", n, got, err)
	}
}

func TestLoneCallThatBlocksHoldsNobodyUp(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var m Mux
		began := make(chan struct{})
		Handle(&m, "hang", func(ctx context.Context, _ int) (int, error) {
			close(began)
			<-ctx.Done()
			return 0, context.Cause(ctx)
		})
		h, p := lonely(t, over, &m)
		ctx, cancel := context.WithCancelCause(bounded(t))
		ended := make(chan error, 1)
		go func() {
			_, err := Call[int, int](ctx, h, "hang", 0)
			ended <- err
		}()
		<-began
		if err := h.Ping(bounded(t)); err != nil {
			t.Error(err)
		}
		echo(t, h, 2)
		cancel(errors.New("enough"))
		if err := <-ended; err == nil || !errors.Is(err, ctx.Err()) && err.Error() != "call of hang: enough" {
			t.Errorf("ended by %v", err)
		}
		p.mu.Lock()
		slow := p.slow["hang"]
		p.mu.Unlock()
		if slow == 0 {
			t.Error("it is not known to be slow")
		}
		echo(t, h, 3)
	})
}

func TestLoneCallThatCallsBack(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var m, ours Mux
		Handle(&ours, "twice", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
		Handle(&m, "ask", func(ctx context.Context, n int) (int, error) {
			return Call[int, int](ctx, sessionOf(ctx), "twice", n)
		})
		h, _ := pair(t, over, Options{Mux: &ours}, Options{Mux: &m, Context: knowsSession})
		for n := range 100 {
			if got, err := Call[int, int](bounded(t), h, "ask", n); err != nil || got != 2*n {
				t.Fatalf("%d, %v", got, err)
			}
		}
	})
}

func TestLoneCallThatEndsItsGoroutine(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var m Mux
		Handle(&m, "exit", func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
		Handle(&m, "panic", func(context.Context, int) (int, error) { panic("so") })
		h, _ := lonely(t, over, &m)
		for _, verb := range []string{"exit", "panic", "exit"} {
			if _, err := Call[int, int](bounded(t), h, verb, 0); !errors.Is(err, ErrPanic) {
				t.Errorf("%s: %v", verb, err)
			}
			echo(t, h, 2)
		}
	})
}

// TestCallerThatGivesUpWhileItReads cancels at any moment, also within a frame.
func TestCallerThatGivesUpWhileItReads(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var m Mux
		Handle(&m, "large", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil })
		h, _ := lonely(t, over, &m)
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(400))*time.Microsecond)
			const size = 300 << 10
			if b, err := Call[int, []byte](ctx, h, "large", size); err == nil && len(b) != size {
				t.Errorf("%d bytes of %d", len(b), size)
			} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
			echo(t, h, 2)
		}
	})
}

// TestTurnThatIsLeftIsLookedAfter sees what comes unasked, whatever the time since the last call.
func TestTurnThatIsLeftIsLookedAfter(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, pause := range []time.Duration{0, tick / 2, tick, 5 * tick} {
			var m Mux
			h, p := lonely(t, over, &m)
			time.Sleep(pause)
			if err := p.Ping(bounded(t)); err != nil {
				t.Errorf("after %v: %v", pause, err)
			}
			echo(t, h, 2)
			time.Sleep(pause)
			p.Close()
			select {
			case <-h.Done():
			case <-bounded(t).Done():
				t.Errorf("after %v: the end was not seen", pause)
			}
		}
	})
}

// TestTurnTakenTooLate has who takes the turn find that what it waits for has happened.
func TestTurnTakenTooLate(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var m Mux
		h, _ := lonely(t, over, &m)
		happened := make(chan struct{})
		close(happened)
		for taken := false; !taken; {
			echo(t, h, 2)
			if taken = h.take(); taken {
				ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
				defer stop()
				if h.read(ctx, happened); ctx.Err() != nil {
					t.Error("it read on")
				}
			}
		}
		echo(t, h, 3)
	})
}

// TestQuietSessionHasOneGoroutine, the one that reads.
func TestQuietSessionHasOneGoroutine(t *testing.T) {
	var m Mux
	h, p := lonely(t, sockets, &m)
	for range 20 {
		echo(t, h, 2)
	}
	left := map[string]string{}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(tick) {
		if left = goroutines(); len(left) == 2 && len(h.free) == 0 && len(p.free) == 0 {
			return
		}
	}
	t.Errorf("two sessions have %d goroutines: %v", len(left), left)
}

// TestEverythingInTurn has both sides do everything at moments that have nothing to do with each other.
func TestEverythingInTurn(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		mux := func() *Mux {
			var m Mux
			Handle(&m, "echo", func(_ context.Context, n int) (int, error) { return n, nil })
			Handle(&m, "nap", func(_ context.Context, n int) (int, error) {
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
				return n, nil
			})
			HandleStream(&m, "mirror", func(ctx context.Context, _ int, s ServerStream[int, int]) (int, error) {
				if err := s.Started(ctx, 0); err != nil {
					return 0, err
				}
				got := 0
				for n, err := range s.All(ctx) {
					if err == nil {
						err = s.Send(ctx, n)
					}
					if err != nil {
						return 0, err
					}
					got++
				}
				return got, nil
			})
			return &m
		}
		h, p := pair(t, over, Options{Mux: mux()}, Options{Mux: mux()})
		var all sync.WaitGroup
		for _, s := range []*Session{h, p, h, p} {
			all.Go(func() {
				ctx := bounded(t)
				for n := range 60 {
					var err error
					switch rand.IntN(5) {
					case 0, 1:
						_, err = Call[int, int](ctx, s, "echo", n)
					case 2:
						_, err = Call[int, int](ctx, s, "nap", n)
					case 3:
						err = s.Ping(ctx)
					case 4:
						err = mirrored(ctx, s)
					}
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
				}
			})
		}
		all.Wait()
	})
}

func mirrored(ctx context.Context, s *Session) error {
	d, err := OpenStream[int, int](ctx, s, "mirror", 0)
	if err != nil {
		return err
	}
	for n := range 3 {
		if err := d.Send(ctx, n); err != nil {
			return err
		}
		if got, err := d.Recv(ctx); err != nil || got != n {
			return errors.Join(err, errors.New("another item"))
		}
	}
	if err := d.CloseSend(); err != nil {
		return err
	}
	var got int
	if err := d.Result(ctx, &got); err != nil || got != 3 {
		return errors.Join(err, errors.New("another count"))
	}
	return nil
}
