package sandboxtest_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"

	"sandboxd/sandbox"
)

func TestSpawnCallResultAndNames(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			var all sync.WaitGroup
			for i := range 4 {
				s := c.spec("worker")
				s.Name = "worker" + strconv.Itoa(i)
				a := c.start(ctx, n, s)
				if a.Name() != s.Name || a.Ref().Name != s.Name || a.Ref().ID == "" || a.Epoch() != 1 {
					c.Errorf("%v, epoch %d", a.Ref(), a.Epoch())
				}
				all.Go(func() {
					if got, err := sandbox.Call[int, int](ctx, a, "double", i); got != 2*i || err != nil {
						c.Error(got, err)
					}
					me, err := sandbox.Call[int, who](ctx, a, "who", 0)
					if want := (who{a.Ref().ID, s.Name, 1}); me != want || err != nil {
						c.Error(me, err)
					}
				})
			}
			all.Wait()
			return nil
		})
	})
}

func TestCallerOfAVerbIsKnown(t *testing.T) {
	each(t, func(c *scope) {
		var m sandbox.Mux
		callers := make(chan *sandbox.Actor, 1)
		sandbox.Handle(&m, "began", func(ctx context.Context, _ string) (struct{}, error) {
			callers <- sandbox.Caller(ctx)
			return struct{}{}, errFull
		})
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			_, err := sandbox.Call[string, int](ctx, a, "sleep", "x")
			if got := <-callers; got != a {
				c.Error("another actor called")
			}
			if !errors.Is(err, errFull) { // there and back
				c.Error(err)
			}
			return nil
		}, sandbox.Serve(&m))
		if sandbox.Caller(c.ctx) != nil {
			c.Error("a caller out of nowhere")
		}
	})
}

func TestSpecServesBesidesTheNursery(t *testing.T) {
	each(t, func(c *scope) {
		var m sandbox.Mux
		sandbox.Handle(&m, "mine", func(context.Context, string) (struct{}, error) { return struct{}{}, nil })
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			s := c.spec("worker")
			s.Serve = &m
			a := c.start(ctx, n, s)
			go func() { _, _ = sandbox.Call[string, int](ctx, a, "sleep", "x") }()
			c.until("x")
			return nil
		})
	})
}

func TestStreamBothWays(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			s, err := sandbox.OpenStream[int, int](ctx, a, "sum", 0)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.Started(ctx, nil); err != nil {
				return err
			}
			sum := 0
			for i := range 100 {
				if err := s.Send(ctx, i); err != nil {
					return err
				}
				sum += i
				if got, err := s.Recv(ctx); got != sum || err != nil {
					c.Fatal(got, err)
				}
			}
			if err := errors.Join(s.CloseSend(), s.CloseSend()); err != nil {
				return err
			}
			if _, err := s.Recv(ctx); !errors.Is(err, io.EOF) {
				c.Error(err)
			}
			var result int
			if err := s.Result(ctx, &result); err != nil || result != sum {
				c.Error(result, err)
			}
			return nil
		})
	})
}

func TestEitherSideMayLeaveADialogEarly(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			s, err := sandbox.OpenStream[int, int](ctx, a, "early", 0)
			if err != nil {
				return err
			}
			var result int
			for err == nil {
				err = s.Send(ctx, 1) // until it has noticed
			}
			if !errors.Is(err, sandbox.ErrEnded) {
				c.Error(err)
			}
			if err := s.Result(ctx, &result); err != nil || result != 7 {
				c.Error(result, err)
			}
			if s, err = sandbox.OpenStream[int, int](ctx, a, "produce", 0); err != nil {
				return err
			}
			if err := errors.Join(s.Started(ctx, nil), s.Close(), s.Close()); err != nil {
				c.Error(err)
			}
			var said string
			twice, err := sandbox.OpenStream[int, int](ctx, a, "twice", 0)
			if err != nil {
				return err
			}
			if err := twice.Result(ctx, &said); err != nil || said != "<nil> true" {
				c.Errorf("Started twice: %q, %v", said, err)
			}
			return a.Ping(ctx)
		}, sandbox.Grace(longGrace))
	})
}

func TestConnectionBreaksMidStream(t *testing.T) {
	for _, b := range []struct {
		how    string
		is     error // of the stream
		alive  bool  // the actor goes on
		reason sandbox.Reason
	}{
		{"close", sandbox.ErrLost, false, sandbox.Lost},
		{"half", sandbox.ErrLost, false, sandbox.Exited},
		{"garbage", sandbox.ErrProtocol, false, sandbox.Lost},
		{"die", sandbox.ErrLost, false, sandbox.Exited},
		{"error", errFull, true, ""},
		{"panic", sandbox.ErrPanic, true, ""},
	} {
		t.Run(b.how, func(t *testing.T) {
			each(t, func(c *scope) {
				grace := longGrace
				if b.how == "close" { // half of it is how long its end is waited for
					grace = shortGrace
				}
				err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
					a := c.start(ctx, n, c.spec("worker"))
					parked := make(chan error, 1)
					go func() { // another call is on the same connection
						_, err := sandbox.Call[string, int](c.ctx, a, "sleep", "parked")
						parked <- err
					}()
					c.until("parked")
					s, err := sandbox.OpenStream[int, int](c.ctx, a, "break", b.how)
					if err != nil {
						return err
					}
					if first, err := s.Recv(c.ctx); first != 1 || err != nil {
						return err
					}
					if err := s.Send(c.ctx, 1); err != nil {
						return err
					}
					_, err = s.Recv(c.ctx)
					if !errors.Is(err, b.is) {
						c.Errorf("the stream says %v, want %v", err, b.is)
					}
					if b.alive {
						return a.Ping(ctx)
					}
					for _, err := range []error{err, <-parked} { // every reader that is parked returns
						lost, ok := errors.AsType[*sandbox.ActorError](err)
						if !ok || lost.Report == nil || lost.Report.Exit.Reason != b.reason || lost.Actor != a.Ref() || !errors.Is(err, sandbox.ErrLost) {
							c.Errorf("%v, want a report that says %s", err, b.reason)
						}
					}
					<-ctx.Done() // for the actor has failed
					return context.Cause(ctx)
				}, sandbox.Grace(grace))
				failed, ok := errors.AsType[*sandbox.ActorError](err)
				if ok == b.alive || ok && failed.Report.Exit.Reason != b.reason {
					c.Errorf("the scope says %v", err)
				}
			})
		})
	}
}

func TestSupervisorLosesTheConnection(t *testing.T) {
	each(t, func(c *scope) {
		conns := make(chan io.Closer, 1)
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			conn := <-conns
			go func() {
				c.until("x")
				conn.Close()
			}()
			_, err := sandbox.Call[string, int](c.ctx, a, "sleep", "x")
			if !errors.Is(err, sandbox.ErrLost) {
				c.Error(err)
			}
			<-ctx.Done()
			return nil
		}, sandbox.Transport(func(rw io.ReadWriteCloser) io.ReadWriteCloser {
			conns <- rw
			return rw
		}))
		if _, ok := errors.AsType[*sandbox.ActorError](err); !ok {
			c.Error(err)
		}
	})
}

func TestInFlightCallsFailWithTheReport(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			var all sync.WaitGroup
			for range 10 {
				all.Go(func() {
					_, err := sandbox.Call[string, int](c.ctx, a, "stuck", "x")
					lost, ok := errors.AsType[*sandbox.ActorError](err)
					if !ok || lost.Report == nil || lost.Report.Exit.Code != 8 || !errors.Is(err, sandbox.ErrLost) {
						c.Error(err)
					}
				})
			}
			for range 10 {
				c.until("x")
			}
			_, _ = sandbox.Call[int, int](c.ctx, a, "die", 8)
			all.Wait()
			return nil
		})
		if err == nil {
			c.Error("nobody has failed")
		}
	})
}

func TestCallRunsToItsEndThoughItsCallerIsGone(t *testing.T) {
	each(t, func(c *scope) {
		var m sandbox.Mux
		ended := make(chan error, 1)
		entered := make(chan struct{})
		sandbox.Handle(&m, "began", func(ctx context.Context, _ string) (struct{}, error) {
			close(entered)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return struct{}{}, nil
		})
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			go func() { _, _ = sandbox.Call[string, int](ctx, a, "sleep", "x") }()
			<-entered
			_, _ = sandbox.Call[int, int](ctx, a, "die", 2)
			if err := <-ended; !errors.Is(err, sandbox.ErrLost) { // told, and run to its end
				c.Error(err)
			}
			return nil
		}, sandbox.Serve(&m))
		if err == nil {
			c.Error("nobody has failed")
		}
	})
}

func TestOnce(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			other := c.start(ctx, n, c.spec("worker"))
			var all sync.WaitGroup
			for i := range 4 { // beside each other
				all.Go(func() {
					if got, err := sandbox.Once[int, int](ctx, n, c.spec("worker"), "double", i); got != 2*i || err != nil {
						c.Error(got, err)
					}
				})
			}
			all.Wait()
			if len(n.Actors()) != 1 {
				c.Errorf("%d actors are left", len(n.Actors()))
			}
			if _, err := sandbox.Once[string, int](ctx, n, c.spec("worker"), "fail", "full"); !errors.Is(err, errFull) {
				c.Error(err)
			}
			_, err := sandbox.Once[int, int](ctx, n, c.spec("worker"), "die", 4)
			if lost, ok := errors.AsType[*sandbox.ActorError](err); !ok || lost.Report.Exit.Code != 4 {
				c.Error(err)
			}
			if _, err := sandbox.Once[int, int](ctx, n, c.spec("exit", "3"), "x", 4); err == nil {
				c.Error("started what does not start")
			}
			call, stop := context.WithCancel(ctx)
			go func() {
				c.until("x")
				stop()
			}()
			if _, err := sandbox.Once[string, int](call, n, c.spec("worker"), "sleep", "x"); !errors.Is(err, context.Canceled) {
				c.Error(err)
			}
			return other.Ping(ctx) // none of this is the scope's failure
		})
	})
}

func TestHeadersAreCarriedOn(t *testing.T) {
	each(t, func(c *scope) {
		type key struct{}
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			s := c.spec("worker")
			s.Finds = true
			a, b := c.start(ctx, n, s), c.start(ctx, n, s)
			ctx = context.WithValue(ctx, key{}, "trace")
			for _, id := range []string{"", b.Ref().ID} { // to an actor, and through it and us to another one
				h, err := sandbox.Call[string, map[string]string](ctx, a, "headers", id)
				if err != nil || h["x"] != "trace" || len(h) != 1 {
					c.Errorf("%q: %v, %v", id, h, err)
				}
			}
			return nil
		}, sandbox.Headers(func(ctx context.Context) map[string]string {
			if v, ok := ctx.Value(key{}).(string); ok {
				return map[string]string{"x": v}
			}
			return nil
		}))
	})
}
