package sandboxtest_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

const (
	shortGrace = 200 * time.Millisecond // of those who will not obey
	longGrace  = time.Hour              // of those who will: a wait for it hangs the test
)

func TestCancelOfOneIsAckedAndClean(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a, b := c.start(ctx, n, c.spec("worker")), c.start(ctx, n, c.spec("worker"))
			if err := a.Cancel(ctx, "enough"); err != nil {
				c.Error(err)
			}
			report, err := a.Wait(ctx)
			if err != nil || report.Exit.Reason != sandbox.Exited || report.Exit.Code != 0 {
				c.Errorf("%+v, %v", report.Exit, err)
			}
			if err := a.Cancel(ctx, "again"); err != nil {
				c.Error(err)
			}
			if _, err := sandbox.Call[int, int](ctx, a, "double", 1); !errors.Is(err, sandbox.ErrLost) {
				c.Error(err)
			}
			_, err = sandbox.Call[int, int](ctx, b, "double", 1) // the other one has not noticed
			return err
		}, sandbox.Grace(longGrace))
	})
}

func TestWillingActorsAreNotKeptWaiting(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			for range 3 {
				a := c.start(ctx, n, c.spec("worker"))
				go func() { _, _ = sandbox.Call[string, int](ctx, a, "sleep", "x") }()
				c.until("x")
			}
			return nil
		}, sandbox.Grace(longGrace))
		if r := c.rungs("worker"); !slices.Equal(r, []sandbox.Rung{sandbox.RungMessage, sandbox.RungMessage, sandbox.RungMessage}) {
			c.Errorf("rungs: %v", r)
		}
	})
}

func TestEndlessProducerEndsWithTheScope(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			s, err := sandbox.OpenStream[int, int](ctx, a, "produce", 0)
			if err != nil {
				return err
			}
			for i, err := range s.All(ctx) {
				if err != nil {
					return err
				}
				if i == 5000 {
					break // and never read again
				}
			}
			return nil
		}, sandbox.Grace(longGrace))
	})
}

func TestDeafChildIsKilled(t *testing.T) {
	each(t, func(c *scope) {
		var mine error
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("deaf"))
			mine = a.Cancel(ctx, "enough")
			return nil
		}, sandbox.Grace(shortGrace))
		for _, err := range []error{mine, err} { // too slow is never masked, nor swallowed
			slow, ok := errors.AsType[*sandbox.TooSlowError](err)
			if !ok || !slow.Acked || slow.Peer.Name != "deaf" || !errors.Is(err, sandbox.ErrTooSlow) {
				c.Error(err)
			}
		}
		if r := c.rungs("deaf"); !slices.Equal(r, []sandbox.Rung{sandbox.RungMessage, sandbox.RungTerm, sandbox.RungKill}) {
			c.Errorf("rungs: %v", r)
		}
	})
}

func TestStubbornChildObeysSIGTERM(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("stubborn"))
			err := a.Cancel(ctx, "enough")
			if report, _ := a.Wait(ctx); report.Exit.Code != 9 {
				c.Errorf("%+v", report.Exit)
			}
			return err
		}, sandbox.Grace(4*time.Second))
		if r := c.rungs("stubborn"); !slices.Equal(r, []sandbox.Rung{sandbox.RungMessage, sandbox.RungTerm}) {
			c.Errorf("rungs: %v", r)
		}
	})
}

func TestDeafChildrenTakeOneGrace(t *testing.T) {
	each(t, func(c *scope) {
		const grace, width = 2 * time.Second, 8
		var began time.Time
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			for range width {
				c.start(ctx, n, c.spec("deaf"))
			}
			began = time.Now()
			return nil
		}, sandbox.Grace(grace))
		if took := time.Since(began); took > 3*grace { // in a row it were 8
			c.Errorf("%d deaf children took %v to end, with a grace of %v", width, took, grace)
		}
		if !errors.Is(err, sandbox.ErrTooSlow) {
			c.Error(err)
		}
	})
}

func TestNobodySurvivesTheScope(t *testing.T) {
	for name, f := range map[string]body{
		"return": func(context.Context, *sandbox.Nursery) error { return nil },
		"error":  func(context.Context, *sandbox.Nursery) error { return errFull },
		"cancel": func(_ context.Context, n *sandbox.Nursery) error { n.Cancel("enough"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(c *scope) {
				err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
					c.start(ctx, n, c.spec("worker"))
					c.start(ctx, n, c.spec("deaf"))
					return f(ctx, n)
				}, sandbox.Grace(shortGrace))
				if !errors.Is(err, sandbox.ErrTooSlow) || errors.Is(err, errFull) != (name == "error") {
					c.Error(err)
				}
			})
		})
	}
}

func TestNobodySurvivesAPanic(t *testing.T) {
	each(t, func(c *scope) {
		defer func() {
			if v := recover(); v != "body" {
				c.Errorf("recovered %v", v)
			}
			c.host.checkGone(c.T)
		}()
		_ = c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			c.start(ctx, n, c.spec("worker"))
			panic("body")
		})
	})
}

func TestInterruptEndsTheTreeWithOneError(t *testing.T) {
	interrupted := errors.New("interrupted")
	each(t, func(c *scope) {
		ctx, stop := context.WithCancelCause(c.ctx)
		err := c.runIn(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 2))
			if _, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: 2, Breadth: 2}); err != nil {
				return err
			}
			go func() {
				c.until("x")
				stop(interrupted) // as signal.NotifyContext does, in another goroutine
			}()
			_, err := sandbox.Call[string, int](ctx, a, "sleep", "x")
			return err
		}, sandbox.Grace(longGrace))
		if err != interrupted {
			c.Error(err)
		}
	})
}

func TestDeadlineOfTheScope(t *testing.T) {
	each(t, func(c *scope) {
		ctx, stop := context.WithTimeout(c.ctx, 50*time.Millisecond)
		defer stop()
		err := c.runIn(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
			a, err := n.Start(ctx, c.spec("worker"))
			if err != nil {
				return err
			}
			_, err = sandbox.Call[string, int](ctx, a, "sleep", "x")
			return err
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			c.Error(err)
		}
	})
}

func TestSelfCancelIsAbsorbed(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			go func() {
				c.until("x")
				n.Cancel("enough")
			}()
			_, err := sandbox.Call[string, int](ctx, a, "sleep", "x")
			who, ok := errors.AsType[*sandbox.CancelCause](err)
			if !ok || who.Reason != "enough" {
				c.Errorf("the call says %v", err)
			}
			return err
		})
	})
}

func TestThirdPartyCancellerIsNamed(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			parent := c.start(ctx, n, tree(c, 1))
			id, err := sandbox.Call[[]string, string](ctx, parent, "spawn", []string{"worker", "kid"})
			if err != nil {
				return err
			}
			kid := n.Find("kid")[0]
			if kid.Ref().ID != id {
				c.Errorf("%v, want %s", kid.Ref(), id)
			}
			called := make(chan error, 1)
			go func() {
				_, err := sandbox.Call[string, int](ctx, kid, "sleep", "x")
				called <- err
			}()
			c.until("x")
			if _, err := sandbox.Call[string, peer.Exit](ctx, parent, "cancel", id); err != nil {
				return err
			}
			err = <-called
			remote, ok := errors.AsType[*sandbox.RemoteError](err)
			if !ok || remote.Canceller != parent.Ref() || !errors.Is(err, context.Canceled) {
				c.Errorf("%v; want it cancelled by %v", err, parent.Ref())
			}
			return nil
		})
	})
}

func TestCancelOfACallReachesIt(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			call, stop := context.WithCancelCause(ctx)
			go func() {
				c.until("x")
				stop(errFull)
			}()
			if _, err := sandbox.Call[string, int](call, a, "sleep", "x"); !errors.Is(err, errFull) || errors.Is(err, sandbox.ErrTooSlow) {
				c.Error(err)
			}
			return a.Ping(ctx)
		}, sandbox.Grace(longGrace))
	})
}

func TestCallThatIsDeafToCancelIsTooSlow(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			call, stop := context.WithCancelCause(ctx)
			go func() {
				c.until("x")
				stop(errFull)
			}()
			_, err := sandbox.Call[string, int](call, a, "stuck", "x")
			if slow, ok := errors.AsType[*sandbox.TooSlowError](err); !ok || !slow.Acked || !errors.Is(err, errFull) {
				c.Error(err)
			}
			return a.Ping(ctx) // the actor lives
		}, sandbox.Grace(shortGrace))
	})
}

func TestCancelBeforeStarted(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			s, err := sandbox.OpenStream[int, int](ctx, a, "never", "x")
			if err != nil {
				return err
			}
			c.until("x")
			if err := s.Cancel(errFull); err != nil {
				c.Error(err)
			}
			if err := s.Started(ctx, nil); err == nil {
				c.Error("it started")
			}
			if _, err := s.Recv(ctx); err == nil || errors.Is(err, io.EOF) {
				c.Error(err)
			}
			return a.Ping(ctx)
		}, sandbox.Grace(longGrace))
	})
}

func TestStartInACancellingNurseryIsRefused(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			c.start(ctx, n, c.spec("worker"))
			n.Cancel("enough")
			if _, err := n.Start(c.ctx, c.spec("worker")); !errors.Is(err, sandbox.ErrCancelling) {
				c.Error(err)
			}
			_, err := n.Go(c.ctx, c.spec("worker"))
			return err // which is but a consequence
		})
	})
}

func TestScopeWaitsForGoAndCancelsStart(t *testing.T) {
	each(t, func(c *scope) {
		var task, daemon *sandbox.Actor
		c.must(func(ctx context.Context, n *sandbox.Nursery) (err error) {
			daemon = c.start(ctx, n, c.spec("worker"))
			task, err = n.Go(ctx, c.spec("worker"))
			go func() {
				c.until("x")
				_, _ = sandbox.Call[int, int](ctx, task, "die", 0)
			}()
			go func() { _, _ = sandbox.Call[string, int](ctx, task, "sleep", "x") }()
			return err
		})
		for _, e := range c.events {
			if e.Kind == sandbox.Cancelling && e.Actor == task.Ref() {
				c.Error("the task was cancelled")
			}
		}
		if len(c.rungs("worker")) != 1 {
			c.Errorf("the daemon %v was not asked once: %v", daemon.Ref(), c.rungs("worker"))
		}
	})
}
