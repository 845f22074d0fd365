package sandboxtest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sandboxd/sandbox"
)

func TestBootDeath(t *testing.T) {
	for _, b := range []struct {
		name, program, arg string
		timeout            time.Duration
		is                 error
		reason             sandbox.Reason
	}{
		{"before hello", "exit", "3", 0, nil, sandbox.Exited},
		{"garbage for a hello", "garbage", "", 0, sandbox.ErrProtocol, sandbox.Lost},
		{"another version", "proto", "", 0, sandbox.ErrProtocol, sandbox.Lost},
		{"silent", "mute", "", 50 * time.Millisecond, nil, sandbox.Lost},
	} {
		t.Run(b.name, func(t *testing.T) {
			each(t, func(c *scope) {
				c.must(func(ctx context.Context, n *sandbox.Nursery) error {
					s := c.spec(b.program, b.arg)
					if b.timeout > 0 {
						s.BootTimeout = b.timeout
					}
					a, err := n.Start(ctx, s)
					failed, ok := errors.AsType[*sandbox.ActorError](err)
					if a != nil || !ok || failed.Report == nil || failed.Report.Exit.Reason != b.reason || b.is != nil && !errors.Is(err, b.is) {
						c.Errorf("%v, want a report that says %s", err, b.reason)
					}
					if len(n.Actors()) != 0 || len(n.Find(b.program)) != 0 {
						c.Error("something of it is left")
					}
					return nil // and the nursery has not failed: its start did
				})
				if c.kinds(sandbox.Ready) != 0 {
					c.Error("it was ready")
				}
			})
		})
	}
}

func TestDeathRightAfterHelloIsAFailure(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			if _, err := n.Go(ctx, c.spec("brief")); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
		failed, ok := errors.AsType[*sandbox.ActorError](err)
		if !ok || failed.Report.Exit.Code != 4 {
			c.Error(err)
		}
	})
}

func TestStartOfNothing(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			if a, err := n.Start(ctx, sandbox.Spec{}); a != nil || !errors.Is(err, sandbox.ErrSpec) {
				c.Error(err)
			}
			var m sandbox.Mux
			sandbox.Handle(&m, "sandboxd.spawn", func(context.Context, int) (int, error) { return 0, nil })
			s := c.spec("worker")
			s.Serve = &m
			if a, err := n.Start(ctx, s); a != nil || !errors.Is(err, sandbox.ErrSpec) {
				c.Error(err)
			}
			return nil
		})
	})
}

func TestCallerOfAStartGivesUp(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			start, stop := context.WithTimeout(ctx, 50*time.Millisecond)
			defer stop()
			if a, err := n.Start(start, c.spec("mute")); a != nil || !errors.Is(err, context.DeadlineExceeded) {
				c.Error(err)
			}
			return nil
		}, sandbox.Grace(longGrace))
	})
}

func TestProbesAndSilentConnectionsAreNobody(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a, err := n.Start(ctx, c.spec("knock"))
			if err != nil {
				return err
			}
			_, err = sandbox.Call[int, int](ctx, a, "double", 1)
			return err
		})
		if c.kinds(sandbox.Ready) != 1 {
			c.Errorf("ready %d times", c.kinds(sandbox.Ready))
		}
	})
}

func TestActorWithoutPeer(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			s := c.spec("exit", "0")
			s.Peer = false
			a, err := n.Go(ctx, s)
			if err != nil {
				return err
			}
			if _, err := sandbox.Call[int, int](ctx, a, "double", 1); err == nil {
				c.Error("called what serves nothing")
			}
			if report, err := a.Wait(ctx); err != nil || report.Exit.Reason != sandbox.Exited {
				c.Errorf("%+v, %v", report, err)
			}
			s = c.spec("exit", "3")
			s.Peer = false
			_, err = n.Go(ctx, s)
			return err
		})
		if failed, ok := errors.AsType[*sandbox.ActorError](err); !ok || failed.Report.Exit.Code != 3 {
			c.Error(err)
		}
	})
}

// A start that races with the scope's end, at every point of both.
func TestStartRacesWithCancel(t *testing.T) {
	rounds := 10_000
	if testing.Short() {
		rounds = 500
	}
	for i := range rounds {
		c := newScope(t, memory)
		var at atomic.Int64
		var n *sandbox.Nursery
		hook := func(step int64) {
			if at.Add(1) == int64(i%4)+step {
				n.Cancel("race")
			}
		}
		c.host.before = func() error { hook(0); return nil }
		c.host.after = func() { hook(1) }
		err := sandbox.Run(c.ctx, func(ctx context.Context, nursery *sandbox.Nursery) error {
			n = nursery
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() {
					s := c.spec("worker")
					s.Peer = i%3 > 0
					if a, err := n.Start(ctx, s); err == nil && a == nil {
						t.Error("neither an actor nor an error")
					} else if err != nil && !errors.Is(err, sandbox.ErrCancelling) && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
			}
			if i%5 == 0 {
				n.Cancel("race")
			}
			if i%2 == 0 {
				all.Wait()
			} else {
				defer all.Wait()
			}
			return nil
		}, sandbox.On(c.host))
		c.host.checkGone(t)
		if err != nil || t.Failed() {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}
