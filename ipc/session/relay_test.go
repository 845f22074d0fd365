package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// through is a dialog from one program to another, by way of a supervisor with windows of its own.
func through(t testing.TB, over transport, inner *Mux, host Options) (outer *Session) {
	t.Helper()
	toInner, _ := pairAs(t, over, Ref{"0.2", "inner"}, host, Options{Mux: inner})
	host.Mux = &Mux{}
	host.Mux.Add("reach", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
		to, err := toInner.Open(ctx, "v", c.Payload())
		if err != nil {
			return nil, err
		}
		return Relay(ctx, c.Stream(), to)
	})
	_, outer = pairAs(t, over, Ref{"0.1", "outer"}, host, Options{Window: 1024})
	return outer
}

func TestRelayPassesEverythingOn(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var inner Mux
		HandleStream(&inner, "v", echoes)
		s := openInts(t, through(t, over, &inner, Options{Window: 2048}), "reach", 9)
		ctx := bounded(t)
		var first, count int
		if err := s.Started(ctx, &first); err != nil || first != 9 {
			t.Error(first, err)
		}
		go func() {
			for i := range 1000 {
				if err := s.Send(ctx, i); err != nil {
					t.Error(err)
				}
			}
			_ = s.CloseSend()
		}()
		next := 0
		for v, err := range s.All(ctx) {
			if err != nil || v != next {
				t.Fatal(v, next, err)
			}
			next++
		}
		if err := s.Result(ctx, &count); err != nil || count != 1000 || next != 1000 {
			t.Error(count, next, err)
		}
	})
}

// A slow reader stops the writer behind the relay too: what lies between them is two windows and what is in hand.
func TestRelayKeepsWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		var inner Mux
		HandleStream(&inner, "v", func(ctx context.Context, n int, s intServer) (int, error) {
			_ = s.Started(ctx, nil)
			for i := range n {
				if err := s.Send(ctx, i); err != nil {
					return i, err
				}
				sent++
			}
			return n, nil
		})
		s := openInts(t, through(t, pipes, &inner, Options{Window: 1024}), "reach", 1000)
		synctest.Wait()
		most := 2*1024/minItem + 1024/4/minItem + 1
		if sent < 1024/minItem || sent > most {
			t.Errorf("%d items on their way, want at most %d", sent, most)
		}
		for i := range 1000 {
			if v, err := s.Recv(t.Context()); err != nil || v != i {
				t.Fatal(v, i, err)
			}
		}
		var n int
		if err := s.Result(t.Context(), &n); err != nil || n != 1000 {
			t.Error(n, err)
		}
	})
}

func TestRelayCancelsBothWays(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		began, saw := make(chan struct{}, 2), make(chan error, 1)
		var inner Mux
		HandleStream(&inner, "v", func(ctx context.Context, n int, s intServer) (int, error) {
			_ = s.Started(ctx, nil)
			began <- struct{}{}
			if n == 1 {
				return 0, quotaError{1, "x"}
			}
			_, err := s.Recv(ctx)
			saw <- err
			return 0, err
		})
		outer := through(t, over, &inner, Options{})
		s := openInts(t, outer, "reach", 0)
		<-began
		who := &Cancelled{Ref{"0.8", "y"}, "enough"}
		if err := s.Cancel(who); err != nil {
			t.Error(err)
		}
		if c, ok := errors.AsType[*Cancelled](<-saw); !ok || *c != *who {
			t.Error(c)
		}
		s = openInts(t, outer, "reach", 1)
		if err := s.Result(bounded(t), nil); !errors.Is(err, quotaError{1, "x"}) {
			t.Error(err)
		}
	})
}

// An item that the other session cannot carry is an error, not a gap.
func TestRelayOfAnItemThatDoesNotFitFails(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var inner Mux
		HandleStream(&inner, "v", func(ctx context.Context, n int, s ServerStream[[]byte, []byte]) (int, error) {
			_ = s.Started(ctx, nil)
			if n > 0 {
				_ = s.Send(ctx, make([]byte, n))
			}
			for range s.All(ctx) {
			}
			return 1, ctx.Err()
		})
		toInner, _ := pairAs(t, over, Ref{"0.2", "inner"}, Options{}, Options{Mux: &inner})
		var host Mux
		host.Add("reach", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
			to, err := toInner.Open(ctx, "v", c.Payload())
			if err != nil {
				return nil, err
			}
			return Relay(ctx, c.Stream(), to)
		})
		a, b := over(t)
		go func() {
			arrival, err := Receive(bounded(t), a)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := arrival.Welcome(bounded(t), Welcome{Self: workRef, Epoch: 1, Cap: 4096}, Options{Mux: &host}); err != nil {
				t.Error(err)
			}
		}()
		outer, _, err := Join(bounded(t), b, Hello{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer outer.Close()
		s, err := OpenStream[[]byte, []byte](bounded(t), outer, "reach", 5000)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Result(bounded(t), nil); err == nil {
			t.Error("an item is missing, and the result says nothing of it")
		}
	})
}
