package sandboxtest_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sandboxd/sandbox"
)

var quick = sandbox.Restarts{Most: 100, Backoff: time.Millisecond}

func TestOneForOneRestartsTheOneThatFailed(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a, b := c.start(ctx, n, c.spec("worker")), c.start(ctx, n, c.spec("worker"))
			first := a.Ref()
			if _, err := sandbox.Call[int, int](ctx, a, "die", 3); !errors.Is(err, sandbox.ErrLost) {
				c.Error(err)
			}
			me, err := sandbox.Call[int, who](ctx, a, "who", 0) // waits for the restart, and then works
			if err != nil || me.Epoch != 2 || me.ID == first.ID || me.ID != a.Ref().ID || a.Epoch() != 2 {
				c.Error(me, err)
			}
			if me, err = sandbox.Call[int, who](ctx, b, "who", 0); err != nil || me.Epoch != 1 {
				c.Error(me, err)
			}
			_, _ = sandbox.Call[int, int](ctx, a, "die", 0) // however well it ends, it is to live
			if me, err = sandbox.Call[int, who](ctx, a, "who", 0); err != nil || me.Epoch != 3 {
				c.Error(me, err)
			}
			if all := n.Find("worker"); len(all) != 2 {
				c.Errorf("%d can be found", len(all))
			}
			return nil
		}, sandbox.Supervise(sandbox.OneForOne{Restarts: quick}), sandbox.Grace(longGrace))
		if c.kinds(sandbox.Restarted) != 2 {
			c.Errorf("restarted %d times", c.kinds(sandbox.Restarted))
		}
	})
}

func TestTaskThatEndsWellIsNotRestarted(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a, err := n.Go(ctx, c.spec("worker"))
			if err != nil {
				return err
			}
			_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
			_, _ = sandbox.Call[int, int](ctx, a, "die", 0)
			return nil
		}, sandbox.Supervise(sandbox.OneForOne{Restarts: quick}))
		if c.kinds(sandbox.Restarted) != 1 || c.kinds(sandbox.Cancelling) != 0 {
			c.Errorf("restarted %d times", c.kinds(sandbox.Restarted))
		}
	})
}

func TestRestForOneKeepsTheOrder(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			var all []*sandbox.Actor
			for i := range 4 {
				s := c.spec("worker")
				s.Name = strconv.Itoa(i)
				all = append(all, c.start(ctx, n, s))
			}
			_, _ = sandbox.Call[int, int](ctx, all[1], "die", 3)
			for i, a := range []*sandbox.Actor{all[3], all[2], all[1], all[0]} {
				want := uint64(2)
				if i == 3 {
					want = 1
				}
				for { // the last life's connection may stand a moment longer
					me, err := sandbox.Call[int, who](ctx, a, "who", 0)
					if err == nil && me.Epoch == want {
						break
					}
					if err != nil && !errors.Is(err, sandbox.ErrLost) && !errors.Is(err, sandbox.ErrBusy) && !errors.Is(err, context.Canceled) {
						c.Fatal(err)
					}
				}
			}
			return nil
		}, sandbox.Supervise(sandbox.RestForOne{Restarts: quick}), sandbox.Grace(longGrace))
		var order []string
		for _, e := range c.events {
			if e.Kind == sandbox.Restarted {
				order = append(order, e.Actor.Name)
			}
		}
		if !slices.Equal(order, []string{"1", "2", "3"}) {
			c.Errorf("restarted %v", order)
		}
	})
}

func TestIntensityOfRestarts(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			for ctx.Err() == nil {
				_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
			}
			<-a.Done()
			if _, err := a.Wait(ctx); !errors.Is(err, sandbox.ErrRestarts) {
				c.Error(err)
			}
			return nil
		}, sandbox.Supervise(sandbox.OneForOne{Restarts: sandbox.Restarts{Most: 2, Backoff: time.Millisecond}}))
		failed, ok := errors.AsType[*sandbox.ActorError](err)
		if !errors.Is(err, sandbox.ErrRestarts) || !ok || failed.Report.Exit.Code != 3 {
			c.Error(err)
		}
		if c.kinds(sandbox.Restarted) != 2 {
			c.Errorf("restarted %d times", c.kinds(sandbox.Restarted))
		}
	})
}

func TestRestartThatFailsIsTriedAgain(t *testing.T) {
	each(t, func(c *scope) {
		starts := 0
		c.host.before = func() error {
			if starts++; starts == 2 || starts == 3 {
				return errFull
			}
			return nil
		}
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
			if me, err := sandbox.Call[int, who](ctx, a, "who", 0); err != nil || me.Epoch != 2 {
				c.Error(me, err)
			}
			return nil
		}, sandbox.Supervise(sandbox.OneForOne{Restarts: quick}))
		if starts != 4 {
			c.Errorf("%d starts", starts)
		}
	})
}

// dead waits until a life of an actor has ended.
func dead(ctx context.Context, c *scope, events *sandbox.Subscription[sandbox.Event]) {
	for {
		if e, err := events.Recv(ctx); err != nil || e.Kind == sandbox.Died {
			if err != nil {
				c.Fatal(err)
			}
			return
		}
	}
}

func TestCancelDuringBackoff(t *testing.T) {
	for _, whole := range []bool{false, true} {
		t.Run(strconv.FormatBool(whole), func(t *testing.T) {
			each(t, func(c *scope) {
				c.must(func(ctx context.Context, n *sandbox.Nursery) error {
					a, b := c.start(ctx, n, c.spec("worker")), c.start(ctx, n, c.spec("worker"))
					events := n.Events()
					_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
					dead(ctx, c, events)
					waiting := make(chan error, 1)
					go func() {
						_, err := sandbox.Call[int, int](c.ctx, a, "double", 1)
						waiting <- err
					}()
					if whole {
						n.Cancel("enough")
					} else if err := a.Cancel(ctx, "enough"); err != nil {
						c.Error(err)
					}
					if err := <-waiting; !errors.Is(err, sandbox.ErrLost) {
						c.Errorf("a call that waited for the restart: %v", err)
					}
					if !whole {
						return b.Ping(ctx)
					}
					return nil
				}, sandbox.Supervise(sandbox.OneForOne{Restarts: sandbox.Restarts{Backoff: time.Hour}}), sandbox.Grace(longGrace))
			})
		})
	}
}

func TestCancelOfTheFirstLeavesTheRest(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a, b := c.start(ctx, n, c.spec("worker")), c.start(ctx, n, c.spec("worker"))
			events := n.Events()
			_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
			dead(ctx, c, events)
			dead(ctx, c, events) // the other one was taken along
			if err := a.Cancel(ctx, "enough"); err != nil {
				c.Error(err)
			}
			if me, err := sandbox.Call[int, who](ctx, b, "who", 0); err != nil || me.Epoch != 2 {
				c.Error(me, err)
			}
			return nil
		}, sandbox.Supervise(sandbox.RestForOne{Restarts: sandbox.Restarts{Backoff: time.Hour}}), sandbox.Grace(longGrace))
	})
}

func TestBackoffDoubles(t *testing.T) {
	each(t, func(c *scope) {
		const base = 20 * time.Millisecond
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			for i := range 4 {
				began := time.Now()
				_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
				if err := a.Ping(ctx); err != nil {
					return err
				}
				if took := time.Since(began); took < base<<i {
					c.Errorf("restart %d after %v, want %v at least", i, took, base<<i)
				}
			}
			return nil
		}, sandbox.Supervise(sandbox.OneForOne{Restarts: sandbox.Restarts{Most: 9, Backoff: base}}))
	})
}

// Everybody dies all the time, and some are cancelled meanwhile.
func TestRestartsRaceWithEachOther(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	for i := range rounds {
		c := newScope(t, memory)
		var strategy sandbox.Strategy = sandbox.RestForOne{Restarts: sandbox.Restarts{Most: 12, Backoff: time.Nanosecond}}
		if i%2 == 0 {
			strategy = sandbox.OneForOne{Restarts: sandbox.Restarts{Most: 12, Backoff: time.Nanosecond}}
		}
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			var all sync.WaitGroup
			for j := range 5 {
				a, _ := n.Start(ctx, c.spec("worker")) // nil: the others have ended the scope
				if a == nil {
					break
				}
				all.Go(func() {
					for range 4 {
						_, _ = sandbox.Call[int, int](ctx, a, "die", j)
					}
					if j%2 == 0 {
						_ = a.Cancel(ctx, "enough")
					}
				})
			}
			all.Wait()
			return nil
		}, sandbox.Supervise(strategy))
		if err != nil && !errors.Is(err, sandbox.ErrRestarts) && !strings.Contains(err.Error(), "code ") || t.Failed() {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}
