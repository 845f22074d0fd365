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

	"golang.org/x/sys/unix"
)

func TestCloseEndsCallsInFlightOnBothSides(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		entered := make(chan struct{}, 20)
		var mux Mux
		mux.Add("u", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) { entered <- struct{}{}; return hang(ctx, c) })
		mux.Add("d", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
			_ = c.Stream().Start(ctx, nil)
			entered <- struct{}{}
			_, err := c.Stream().Recv(ctx)
			return nil, err
		})
		for _, closer := range []int{0, 1} {
			h, p := pair(t, over, Options{Mux: &mux}, Options{Mux: &mux})
			var all sync.WaitGroup
			for _, s := range []*Session{h, p} {
				for range 5 {
					all.Go(func() {
						if _, err := s.Call(bounded(t), "u", nil); !errors.Is(err, ErrLost) {
							t.Error(err)
						}
					})
				}
				st, err := s.Open(bounded(t), "d", nil)
				if err != nil {
					t.Fatal(err)
				}
				all.Go(func() {
					if _, err := st.Recv(bounded(t)); !errors.Is(err, ErrLost) {
						t.Error(err)
					}
					if _, err := st.Result(bounded(t)); !errors.Is(err, ErrLost) {
						t.Error(err)
					}
				})
			}
			for range 12 {
				<-entered
			}
			ends := []*Session{h, p}
			ends[closer].Close()
			ends[closer].Close()
			all.Wait()
			<-ends[1-closer].Done()
			if err := ends[closer].Err(); !errors.Is(err, ErrExited) {
				t.Error(err)
			}
			if err := ends[1-closer].Err(); !errors.Is(err, ErrLost) || errors.Is(err, ErrExited) {
				t.Error(err)
			}
			if _, err := h.Call(bounded(t), "u", nil); !errors.Is(err, ErrLost) {
				t.Error(err)
			}
			if err := h.Ping(bounded(t)); !errors.Is(err, ErrLost) {
				t.Error(err)
			}
		}
	})
}

func TestExitIsAnOrderlyEnd(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		entered := make(chan struct{})
		program.Add("u", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) { close(entered); return hang(ctx, c) })
		h, p := pair(t, over, Options{}, Options{Mux: &program})
		got := make(chan error, 1)
		go func() {
			_, err := h.Call(bounded(t), "u", nil)
			got <- err
		}()
		<-entered
		if err := p.Exit(bounded(t)); err != nil {
			t.Error(err)
		}
		<-h.Done()
		if err := <-got; !errors.Is(err, ErrLost) || !errors.Is(h.Err(), ErrExited) {
			t.Error(err, h.Err())
		}
	})
}

// Nothing follows EXIT, whatever functions still answer.
func TestNothingFollowsExit(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		free := make(chan struct{})
		program.Add("v", Unary, func(context.Context, *Inbound) ([]byte, error) { <-free; return nil, nil })
		s, p := scripted(t, over, false, false, Options{Mux: &program})
		p.send(message{kind: start, cid: 2, verb: "v", payload: nilPayload}, message{kind: ping, n: 1})
		p.want(pong)
		s.mu.Lock()
		write, err := s.w.put(&message{kind: exit})
		s.mu.Unlock()
		close(free)
		if err != nil {
			t.Fatal(err)
		}
		p.send(message{kind: ping, n: 2}) // which is not answered, and does not end what EXIT has begun
		if write {
			s.w.write()
		}
		p.want(exit)
		s.Close()
		if m := p.next(); m.kind != 0 {
			t.Errorf("%v after EXIT", m.kind)
		}
	})
}

func TestDrainCancelsAnswersAndRefuses(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		entered := make(chan struct{}, 3)
		program.Add("u", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		h, p := pair(t, over, Options{}, Options{Mux: &program})
		who := Ref{"0.4", "z"}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				_, err := h.Call(bounded(t), "u", nil)
				if r, ok := errors.AsType[*RemoteError](err); !ok || r.Canceller != who || !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		for range 3 {
			<-entered
		}
		p.Drain(bounded(t), &Cancelled{who, "over"})
		all.Wait()
		if _, err := h.Call(bounded(t), "u", nil); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	})
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var program Mux
		free := make(chan struct{})
		program.Add("deaf", Unary, func(context.Context, *Inbound) ([]byte, error) { <-free; return nil, nil })
		h, p := pair(t, pipes, Options{}, Options{Mux: &program})
		go h.Call(t.Context(), "deaf", nil)
		synctest.Wait()
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		began := time.Now()
		p.Drain(ctx, &Cancelled{})
		if took := time.Since(began); took != time.Second {
			t.Error(took)
		}
		close(free)
	})
}

func TestSupervisorAsksTheWholeProgramToEnd(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		asked := make(chan string, 2)
		h, _ := pair(t, over, Options{}, Options{Cancelled: func(c *Cancelled, grace time.Duration) { asked <- fmt.Sprint(c, grace) }})
		for range 2 { // the second time it knows already
			if err := h.CancelPeer(bounded(t), &Cancelled{hostRef, "over"}, 1500*time.Millisecond); err != nil {
				t.Error(err)
			}
		}
		if got := <-asked; got != "cancelled by host (0): over 1.5s" {
			t.Error(got)
		}
		if err := h.Ping(bounded(t)); err != nil || len(asked) > 0 {
			t.Error(err, len(asked))
		}
	})
}

func TestPeerKilledWithinAFrameIsLost(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, host := range []bool{true, false} {
			for _, n := range []int{0, 1, 3, 4, 5, 60} {
				s, p := scripted(t, over, host, false, Options{})
				got := make(chan error, 1)
				go func() {
					_, err := s.Call(bounded(t), "v", nil)
					got <- err
				}()
				p.want(start)
				p.raw(framed(make([]byte, 100))[:n])
				p.rw.Close()
				if err := <-got; !errors.Is(err, ErrLost) || errors.Is(err, ErrProtocol) {
					t.Error(host, n, err)
				}
				if within := n > 0; strings.Contains(s.Err().Error(), io.ErrUnexpectedEOF.Error()) != within {
					t.Error(host, n, s.Err())
				}
			}
		}
	})
}

// What the other side said last is told, also where writing to it failed first.
func TestLastWordsAreHeardBehindABrokenWrite(t *testing.T) {
	noLeaks(t)
	s, p := scripted(t, sockets, true, true, Options{})
	p.send(message{kind: fail, err: &RemoteError{Type: "sandboxd.Busy", Message: "no more"}})
	p.rw.Close()
	_, _ = s.Call(bounded(t), "v", nil)
	<-s.Done()
	if !errors.Is(s.Err(), ErrBusy) {
		t.Error(s.Err())
	}
}

// A peer that reads no more, and stays, is lost: the calls end.
func TestPeerThatShutsItsReadingSideIsLost(t *testing.T) {
	noLeaks(t)
	s, p := scripted(t, sockets, true, true, Options{})
	raw, err := p.rw.(socket).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = errors.Join(err, unix.Shutdown(int(fd), unix.SHUT_RD)) }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Call(bounded(t), "v", nil); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
	<-s.Done()
}

// Callers wait no longer than they want to where the other side reads nothing.
func TestNobodyWaitsLongerThanItsContextForADeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := scripted(t, pipes, true, true, Options{})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		began := time.Now()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				_, err := Call[[]byte, int](ctx, s, "v", make([]byte, 200<<10))
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > time.Second+DefaultGrace {
			t.Error(took)
		}
		if s.w.size > highWater+flood {
			t.Error(s.w.size)
		}
	})
}

// closers ends a connection while others use it.
func TestEverythingAtOnceAndThenTheEnd(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for range 20 {
			var mux Mux
			Handle(&mux, "u", func(_ context.Context, n int) (int, error) { return n, nil })
			HandleStream(&mux, "d", echoes)
			h, p := pair(t, over, Options{Mux: &mux}, Options{Mux: &mux})
			ctx, stop := context.WithCancel(bounded(t))
			defer stop()
			var all sync.WaitGroup
			for _, s := range []*Session{h, p} {
				for range 3 {
					all.Go(func() {
						for i := 0; ; i++ {
							if _, err := Call[int, int](ctx, s, "u", i); err != nil {
								return
							}
							if i == 10 {
								stop()
							}
						}
					})
					all.Go(func() {
						st, err := OpenStream[int, int](ctx, s, "d", 1)
						if err != nil {
							return
						}
						for err == nil {
							if err = st.Send(ctx, 1); err == nil {
								_, err = st.Recv(ctx)
							}
						}
						_ = st.Close()
					})
				}
				all.Go(func() {
					for s.Ping(ctx) == nil {
					}
				})
			}
			<-ctx.Done()
			go h.Close()
			_ = p.Exit(ctx)
			all.Wait()
		}
	})
}
