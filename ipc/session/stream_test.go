package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type (
	intServer = ServerStream[int, int]
	intClient = ClientStream[int, int]
)

func openInts(t testing.TB, s *Session, verb string, n int) *intClient {
	t.Helper()
	st, err := OpenStream[int, int](bounded(t), s, verb, n)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// echoes sends back what comes until there is no more, and says how much it was.
func echoes(ctx context.Context, n int, s intServer) (int, error) {
	if err := s.Started(ctx, n); err != nil {
		return 0, err
	}
	count := 0
	for v, err := range s.All(ctx) {
		if err != nil {
			return count, err
		}
		if err := s.Send(ctx, v); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

func TestManyWindowsOfItemsBothWaysInOrder(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		HandleStream(&program, "echo", echoes)
		h, _ := pair(t, over, Options{Window: 4 << 10}, Options{Mux: &program, Window: 8 << 10})
		ctx, s := bounded(t), openInts(t, h, "echo", 42)
		var first int
		if err := s.Started(ctx, &first); err != nil || first != 42 {
			t.Fatal(first, err)
		}
		const n = 5000
		var sending sync.WaitGroup
		sending.Go(func() {
			for i := range n {
				if err := s.Send(ctx, i); err != nil {
					t.Error(err)
					return
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
		})
		next := 0
		for v, err := range s.All(ctx) {
			if err != nil || v != next {
				t.Fatal(v, next, err)
			}
			next++
		}
		sending.Wait()
		var count int
		if err := s.Result(ctx, &count); err != nil || count != n || next != n {
			t.Fatal(count, next, err)
		}
		if err := s.Send(ctx, 1); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
		if err := s.Cancel(nil); err != nil {
			t.Error(err)
		}
	})
}

// A reader that does not read stops the writer, and loses nothing.
func TestSlowReaderStopsTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var program Mux
		sent := 0
		HandleStream(&program, "pour", func(ctx context.Context, n int, s intServer) (int, error) {
			if err := s.Started(ctx, nil); err != nil {
				return 0, err
			}
			for i := range n {
				if err := s.Send(ctx, i); err != nil {
					return i, err
				}
				sent++
			}
			return n, nil
		})
		const window, n = 1024, 500
		h, _ := pair(t, pipes, Options{Window: window}, Options{Mux: &program})
		s := openInts(t, h, "pour", n)
		synctest.Wait()
		if sent != window/minItem {
			t.Errorf("%d items are held, want %d", sent, window/minItem)
		}
		for i := range n {
			if v, err := s.Recv(t.Context()); err != nil || v != i {
				t.Fatal(v, i, err)
			}
			synctest.Wait()
			if ahead := sent - i - 1; ahead > window/minItem {
				t.Fatalf("%d items ahead of the reader", ahead)
			}
		}
		if _, err := s.Recv(t.Context()); err != io.EOF {
			t.Error(err)
		}
	})
}

func TestItemsLargerThanTheWindowPassOneAtATime(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		HandleStream(&program, "echo", func(ctx context.Context, _ int, s ServerStream[[]byte, []byte]) (int, error) {
			if err := s.Started(ctx, nil); err != nil {
				return 0, err
			}
			n := 0
			for v, err := range s.All(ctx) {
				if err != nil {
					return n, err
				}
				if err := s.Send(ctx, v); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		})
		h, _ := pair(t, over, Options{Window: 100}, Options{Mux: &program, Window: 100})
		ctx := bounded(t)
		s, err := OpenStream[[]byte, []byte](ctx, h, "echo", 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			item := []byte(strings.Repeat("x", i*140000))
			if err := s.Send(ctx, item); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Recv(ctx); err != nil || len(got) != len(item) {
				t.Fatal(len(got), err)
			}
		}
		if err := s.Send(ctx, make([]byte, 1<<20)); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Error("a second time:", err)
		}
		if err := s.Send(ctx, nil); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
		var n int
		if err := s.Result(ctx, &n); err != nil || n != 8 {
			t.Error(n, err)
		}
	})
}

func TestHalfCloseInEitherOrder(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		HandleStream(&program, "i", func(ctx context.Context, first int, s intServer) (int, error) {
			if err := s.Started(ctx, nil); err != nil {
				return 0, err
			}
			if first == 1 { // this side stops first, and goes on to read
				if err := s.CloseSend(); err != nil {
					return 0, err
				}
			}
			sum := 0
			for v, err := range s.All(ctx) {
				if err != nil {
					return 0, err
				}
				sum += v
			}
			if first == 0 {
				return sum, s.Send(ctx, 5)
			}
			return sum, nil
		})
		h, _ := pair(t, over, Options{}, Options{Mux: &program})
		ctx := bounded(t)
		for first, want := range []string{"[5]", "[]"} {
			s := openInts(t, h, "i", first)
			if first == 1 {
				if _, err := s.Recv(ctx); err != io.EOF {
					t.Error(err)
				}
			}
			for i := range 3 {
				if err := s.Send(ctx, i); err != nil {
					t.Error(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
			items := []int{}
			for v, err := range s.All(ctx) {
				if err != nil {
					t.Error(err)
				}
				items = append(items, v)
			}
			var sum int
			if err := s.Result(ctx, &sum); err != nil || sum != 3 || fmt.Sprint(items) != want {
				t.Error(sum, items, err)
			}
		}
	})
}

func TestServerLeavesEarly(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		HandleStream(&program, "leave", func(ctx context.Context, how int, s intServer) (int, error) {
			switch how {
			case 0:
				return 10, nil // without Started
			case 1:
				return 11, s.Started(ctx, 1)
			case 2:
				_ = s.Started(ctx, 1)
				_, err := s.Recv(ctx)
				return 12, err
			case 3:
				_ = s.Started(ctx, 1)
				_ = s.Send(ctx, 1)
				return 0, errors.New("in the middle")
			case 4:
				_ = s.Started(ctx, 1)
				panic("in the middle")
			}
			return 0, s.Send(ctx, 1) // before Started
		})
		h, _ := pair(t, over, Options{}, Options{Mux: &program, Window: 1000})
		ctx := bounded(t)
		for how, want := range []string{"", "", "", "in the middle", "in the middle", "says Started before"} {
			s := openInts(t, h, "leave", how)
			var serr error
			for serr == nil { // until it is gone
				serr = s.Send(ctx, 1)
			}
			if want == "" && !errors.Is(serr, ErrEnded) || want != "" && !strings.Contains(serr.Error(), want) {
				t.Errorf("%d: send: %v", how, serr)
			}
			if err := s.Started(ctx, nil); how == 0 && !errors.Is(err, ErrEnded) || how >= 1 && how <= 2 && err != nil {
				t.Errorf("%d: started: %v", how, err)
			}
			if how == 3 {
				if v, err := s.Recv(ctx); err != nil || v != 1 {
					t.Error("what came before the error is lost:", v, err)
				}
			}
			_, rerr := s.Recv(ctx)
			var n int
			err := s.Result(ctx, &n)
			if want == "" && (err != nil || n != 10+how || rerr != io.EOF) {
				t.Errorf("%d: %d, %v, %v", how, n, err, rerr)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(rerr.Error(), want)) {
				t.Errorf("%d: %v, %v", how, err, rerr)
			}
		}
		if err := h.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Whatever its server is at, cancel ends a dialog, and Close can be deferred.
func TestOpenerCancelsAtEveryState(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		reached := make(chan struct{}, 1)
		saw := make(chan error, 1)
		var program Mux
		HandleStream(&program, "at", func(ctx context.Context, state int, s intServer) (_ int, err error) {
			defer func() { saw <- err }()
			if state == 0 {
				reached <- struct{}{}
				<-ctx.Done()
				return 0, ctx.Err()
			}
			_ = s.Started(ctx, nil)
			if state >= 3 {
				_ = s.CloseSend()
			}
			if state != 2 {
				reached <- struct{}{}
			}
			for i := 0; ; i++ {
				if state == 2 {
					if i == 3 {
						reached <- struct{}{}
					}
					err = s.Send(ctx, i) // until the window is full
				} else {
					_, err = s.Recv(ctx)
				}
				if errors.Is(err, io.EOF) {
					<-ctx.Done()
					err = ctx.Err()
				}
				if err != nil {
					return 0, err
				}
			}
		})
		h, _ := pair(t, over, Options{Window: 1000}, Options{Mux: &program})
		for state := range 5 {
			for _, how := range []string{"Close", "Cancel", "Result"} {
				s := openInts(t, h, "at", state)
				if state == 4 {
					if err := s.CloseSend(); err != nil {
						t.Error(err)
					}
				}
				<-reached
				who := &Cancelled{Ref{"0.5", "x"}, "enough"}
				switch how {
				case "Close":
					who = &Cancelled{hostRef, "closed"}
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				case "Cancel":
					if err := s.Cancel(who); err != nil {
						t.Error(err)
					}
				case "Result":
					ctx, stop := context.WithCancelCause(bounded(t))
					stop(who)
					if err := s.Result(ctx, nil); !errors.Is(err, who) {
						t.Error(err)
					}
				}
				if c, ok := errors.AsType[*Cancelled](<-saw); ok && *c != *who {
					t.Errorf("state %d, %s: %v", state, how, c)
				}
				if err := s.Send(bounded(t), 1); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		}
	})
}

func TestCancelOfADeafDialogTakesOneGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var program Mux
		free := make(chan struct{})
		HandleStream(&program, "deaf", func(context.Context, int, intServer) (int, error) { <-free; return 1, nil })
		h, _ := pair(t, pipes, Options{Grace: time.Second}, Options{Mux: &program})
		s, began := openInts(t, h, "deaf", 0), time.Now()
		var all sync.WaitGroup
		for range 5 { // all of them, at once
			all.Go(func() {
				if err := s.Cancel(errOwn); !errors.Is(err, ErrTooSlow) || !errors.Is(err, errOwn) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != time.Second {
			t.Error(took)
		}
		close(free)
		synctest.Wait()
		if err := s.Result(t.Context(), nil); !errors.Is(err, ErrTooSlow) {
			t.Error(err) // the late answer is ignored
		}
	})
}

func TestResultDrainsWhatNobodyReceived(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		HandleStream(&program, "pour", func(ctx context.Context, n int, s intServer) (int, error) {
			_ = s.Started(ctx, nil)
			for i := range n {
				if err := s.Send(ctx, i); err != nil {
					return i, err
				}
			}
			return n, nil
		})
		h, _ := pair(t, over, Options{Window: 640}, Options{Mux: &program})
		s := openInts(t, h, "pour", 1000)
		var n int
		if err := s.Result(bounded(t), &n); err != nil || n != 1000 {
			t.Error(n, err)
		}
		if err := s.Result(bounded(t), &n); err != nil || n != 1000 {
			t.Error("a second time:", n, err)
		}
	})
}

func TestMisuseOfStreamsIsAnErrorHere(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		program.Add("d", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
			s := c.Stream()
			_, started := s.Started(ctx)
			_, result := s.Result(ctx)
			for what, err := range map[string]error{"Started": started, "Result": result, "Cancel": s.Cancel(nil), "junk": s.Start(ctx, []byte{0xc1})} {
				if err == nil {
					t.Error(what, "of the server's end")
				}
			}
			if err := s.Start(ctx, nil); err != nil {
				t.Error(err)
			}
			if err := s.Start(ctx, nil); err == nil || !strings.Contains(err.Error(), "already") {
				t.Error(err)
			}
			if err := s.Send(ctx, []byte{1, 2}); !errors.Is(err, ErrBadPayload) {
				t.Error(err)
			}
			return nil, nil
		})
		program.Add("u", Unary, func(_ context.Context, c *Inbound) ([]byte, error) {
			if c.Stream() != nil {
				t.Error("a call has a stream")
			}
			return nil, nil
		})
		h, p := pair(t, over, Options{}, Options{Mux: &program})
		s, err := h.Open(bounded(t), "d", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(bounded(t), nil); err == nil {
			t.Error("the opener says Started")
		}
		if _, err := s.Result(bounded(t)); err != nil {
			t.Error(err)
		}
		if _, err := h.Call(bounded(t), "u", nil); err != nil {
			t.Error(err)
		}
		if err := p.CancelPeer(bounded(t), &Cancelled{}, 0); err == nil {
			t.Error("a program cancels its supervisor")
		}
	})
}
