package sandboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"sandboxd/sandbox"
)

func TestRemoteErrorIsBoxedWithItsType(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			_, err := sandbox.Call[string, int](ctx, a, "fail", "quota")
			quota, ok := errors.AsType[*QuotaError](err)
			if !ok || quota.Limit != 7 {
				c.Errorf("a registered type: %v", err)
			}
			remote, ok := errors.AsType[*sandbox.RemoteError](err)
			if !ok || remote.Type != "test.Quota" || remote.Source != a.Ref() || len(remote.Relay) != 0 {
				c.Errorf("%+v", remote)
			}
			if _, err = sandbox.Call[string, int](ctx, a, "fail", "full"); !errors.Is(err, errFull) {
				c.Errorf("a registered error: %v", err)
			}
			_, err = sandbox.Call[string, int](ctx, a, "fail", "strange")
			if remote, ok = errors.AsType[*sandbox.RemoteError](err); !ok || remote.Type != "sandboxtest_test.strange" || remote.Message != "strange" {
				c.Errorf("an unknown type: %+v", remote)
			}
			_, err = sandbox.Call[string, int](ctx, a, "fail", "panic")
			if remote, _ = errors.AsType[*sandbox.RemoteError](err); !errors.Is(err, sandbox.ErrPanic) || !strings.Contains(remote.Stack, "programs_test.go") {
				c.Errorf("a panic: %v", err)
			}
			_, err = sandbox.Call[int, int](ctx, a, "double", 1) // which it has survived
			return err
		})
	})
}

func TestUnexposedVerbIsRefused(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			if _, err := sandbox.Call[int, int](ctx, a, "os.Exit", 1); !errors.Is(err, sandbox.ErrUnknownVerb) {
				c.Error(err)
			}
			if _, err := sandbox.Call[int, int](ctx, a, "sum", 1); !errors.Is(err, sandbox.ErrWrongMode) {
				c.Error(err)
			}
			if _, err := sandbox.Call[string, int](ctx, a, "double", "x"); !errors.Is(err, sandbox.ErrBadPayload) {
				c.Error(err)
			}
			if _, err := sandbox.Call[int, string](ctx, a, "double", 1); !errors.Is(err, sandbox.ErrBadPayload) {
				c.Error(err)
			}
			_, err := sandbox.Call[int, int](ctx, a, "double", 1)
			return err
		})
	})
}

func TestAnActorThatFailsCancelsTheRest(t *testing.T) {
	each(t, func(c *scope) {
		var bodys error
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			if _, err := n.Go(ctx, c.spec("worker")); err != nil {
				return err
			}
			b := c.start(ctx, n, c.spec("worker"))
			go func() {
				c.until("b")
				_, _ = sandbox.Call[int, int](ctx, a, "die", 3)
			}()
			_, bodys = sandbox.Call[string, int](ctx, b, "sleep", "b")
			return bodys
		})
		failed, ok := errors.AsType[*sandbox.ActorError](err)
		if !ok || failed.Report.Exit.Code != 3 || strings.Contains(err.Error(), "\n") {
			c.Errorf("%v; want the one failure", err)
		}
		var who *sandbox.CancelCause // the body was told who
		if !errors.As(bodys, &who) || who.By != failed.Actor {
			c.Errorf("%v; want it cancelled by %v", bodys, failed.Actor)
		}
		if c.kinds(sandbox.Died) != 3 {
			c.Errorf("%d died", c.kinds(sandbox.Died))
		}
	})
}

// failing makes k of n actors fail by themselves, all before anyone is cancelled.
func failing(c *scope, of, k int) error {
	return c.run(func(ctx context.Context, n *sandbox.Nursery) error {
		var all []*sandbox.Actor
		for range of {
			all = append(all, c.start(ctx, n, c.spec("worker")))
		}
		var dying sync.WaitGroup
		for _, a := range all[:k] {
			dying.Go(func() { _, _ = sandbox.Call[int, int](c.ctx, a, "die", 5) })
		}
		dying.Wait()
		<-ctx.Done()
		return ctx.Err()
	})
}

func TestTwoFailingChildrenGiveBothErrors(t *testing.T) {
	each(t, func(c *scope) {
		c.host.hold = make(chan struct{}) // so that neither is known to be gone before both are
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			for range 2 {
				a, err := n.Go(ctx, c.spec("worker"))
				if err != nil {
					return err
				}
				go func() { _, _ = sandbox.Call[int, int](c.ctx, a, "die", 5) }()
			}
			c.host.allDead()
			close(c.host.hold)
			<-ctx.Done()
			return ctx.Err()
		}, sandbox.Grace(longGrace))
		for _, e := range c.events {
			if e.Kind == sandbox.Died && !strings.Contains(err.Error(), e.Actor.String()) {
				c.Errorf("%v failed, and the scope says %v", e.Actor, err)
			}
		}
		if n := strings.Count(err.Error(), "code 5"); n != 2 {
			c.Errorf("want both: %v", err)
		}
	})
}

func TestSomeFailAndTheRestIsCancelled(t *testing.T) {
	for _, k := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			each(t, func(c *scope) {
				err := failing(c, 5, k)
				own := 0
				for _, e := range c.events {
					if e.Kind == sandbox.Died && e.Err != nil {
						own++
						if e.Report.Exit.Code != 5 || !strings.Contains(err.Error(), e.Actor.ID) {
							c.Errorf("%v died by itself of %v, and the scope says %v", e.Actor, e.Err, err)
						}
					}
				}
				// An actor that was asked to end before it could fail has not failed.
				if got := strings.Count(err.Error(), "code 5"); got != own || own < 1 || own > k {
					c.Errorf("%d failed by themselves, and the scope tells of %d: %v", own, got, err)
				}
			})
		})
	}
}

func Test25ChildrenStaggered(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			var all sync.WaitGroup
			for i := range 25 {
				all.Go(func() {
					a, err := n.Start(ctx, c.spec("worker"))
					if err != nil { // the first that fail cancel the last that start
						if !errors.Is(err, sandbox.ErrCancelling) && !errors.Is(err, context.Canceled) {
							c.Error(err)
						}
						return
					}
					if i%2 == 0 {
						_, _ = sandbox.Call[int, int](ctx, a, "die", 5)
					}
				})
			}
			all.Wait()
			<-ctx.Done()
			return context.Cause(ctx)
		})
		if _, ok := errors.AsType[*sandbox.ActorError](err); !ok {
			c.Error(err)
		}
		if c.kinds(sandbox.Spawned) != c.kinds(sandbox.Died) {
			c.Errorf("%d spawned, %d died", c.kinds(sandbox.Spawned), c.kinds(sandbox.Died))
		}
	})
}

func TestRootCauseBeatsLaterCancels(t *testing.T) {
	each(t, func(c *scope) {
		ctx, stop := context.WithCancelCause(c.ctx)
		err := c.runIn(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			_, _ = sandbox.Call[int, int](ctx, a, "die", 5)
			<-ctx.Done()
			n.Cancel("later")
			stop(errors.New("much later"))
			return errors.Join(ctx.Err(), context.Cause(ctx))
		})
		failed, ok := errors.AsType[*sandbox.ActorError](err)
		if !ok || failed.Report.Exit.Code != 5 || errors.Is(err, context.Canceled) {
			c.Error(err)
		}
	})
}

func TestBodyErrorIsFirstWhereItCancelled(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			c.start(ctx, n, c.spec("worker"))
			c.start(ctx, n, c.spec("deaf"))
			return errFull
		}, sandbox.Grace(shortGrace))
		lines := strings.Split(err.Error(), "\n")
		if lines[0] != errFull.Error() || len(lines) != 2 || !errors.Is(err, sandbox.ErrTooSlow) {
			c.Error(err)
		}
	})
}

func TestErrorOfANestedScopeComesThrough(t *testing.T) {
	each(t, func(c *scope) {
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			c.start(ctx, n, c.spec("worker"))
			return sandbox.Run(ctx, func(ctx context.Context, inner *sandbox.Nursery) error {
				a := c.start(ctx, inner, c.spec("worker"))
				_, err := sandbox.Call[string, int](ctx, a, "fail", "full")
				return err
			}, sandbox.On(c.host))
		})
		if !errors.Is(err, errFull) {
			c.Error(err)
		}
	})
}

func TestNestedScopeIsCancelledByTheOuterOne(t *testing.T) {
	each(t, func(c *scope) {
		var inner error
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			inner = sandbox.Run(ctx, func(ctx context.Context, in *sandbox.Nursery) error {
				c.start(ctx, in, c.spec("worker"))
				n.Cancel("from outside")
				<-ctx.Done()
				return nil
			}, sandbox.On(c.host))
			return nil
		})
		if who, ok := errors.AsType[*sandbox.CancelCause](inner); !ok || who.Reason != "from outside" {
			c.Errorf("the inner scope says %v", inner)
		}
	})
}

func TestNestedErrors(t *testing.T) {
	for _, depth := range []int{1, 3} {
		t.Run(fmt.Sprint(depth), func(t *testing.T) {
			each(t, func(c *scope) {
				c.must(func(ctx context.Context, n *sandbox.Nursery) error {
					a := c.start(ctx, n, tree(c, depth))
					_, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: depth, Breadth: 2, Leaf: "fail"})
					remote, ok := errors.AsType[*sandbox.RemoteError](err)
					if !ok {
						c.Error(err)
						return nil
					}
					// Each level hands it on, and so do we between two levels.
					if slices.Contains(remote.Relay, remote.Source) || len(remote.Relay) < depth {
						c.Errorf("depth %d, and passed on by %v", depth, remote.Relay)
					}
					if _, err := sandbox.Call[int, int](ctx, a, "double", 1); err != nil {
						c.Error("an error came through, and the actor died of it: ", err)
					}
					return nil
				})
			})
		})
	}
}
