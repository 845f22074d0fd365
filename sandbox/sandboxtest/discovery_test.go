package sandboxtest_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"sandboxd/sandbox"
)

func TestFoundAndThenNot(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			if len(n.Find("worker")) > 0 {
				c.Error("found before it was started")
			}
			a := c.start(ctx, n, c.spec("worker"))
			if all := n.Find("worker"); len(all) != 1 || all[0] != a {
				c.Error(all)
			}
			if err := a.Cancel(ctx, "enough"); err != nil {
				return err
			}
			if all := n.Find("worker"); len(all) > 0 {
				c.Errorf("found after its end: %v", all)
			}
			return nil
		})
	})
}

func TestStaleEntryIsDroppedWithTheConnection(t *testing.T) {
	each(t, func(c *scope) {
		_ = c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("worker"))
			if _, err := sandbox.Call[int, int](c.ctx, a, "die", 1); err == nil { // which returns when nothing of it is left
				c.Error("it lives")
			}
			<-a.Done()
			if all := n.Find("worker"); len(all) > 0 {
				c.Errorf("found after its death: %v", all)
			}
			return nil
		})
	})
}

func TestAwait(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			found := make(chan *sandbox.Actor, 3)
			for range 3 {
				go func() {
					a, err := n.Await(ctx, "late")
					if err != nil {
						c.Error(err)
					}
					found <- a
				}()
			}
			s := c.spec("worker")
			s.Name = "late"
			a := c.start(ctx, n, s)
			for range 3 {
				if got := <-found; got != a {
					c.Errorf("awaited another one: %v", got.Ref())
				}
			}
			never, stop := context.WithCancelCause(ctx)
			stop(errFull)
			if _, err := n.Await(never, "nobody"); !errors.Is(err, errFull) {
				c.Error(err)
			}
			n.Cancel("enough")
			if _, err := n.Await(c.ctx, "nobody"); !errors.Is(err, context.Canceled) {
				c.Error(err)
			}
			return nil
		})
	})
}

func TestSameNameInParallel(t *testing.T) {
	for width := 1; width <= 16; width *= 2 {
		t.Run(strconv.Itoa(width), func(t *testing.T) {
			each(t, func(c *scope) {
				c.must(func(ctx context.Context, n *sandbox.Nursery) error {
					var all sync.WaitGroup
					for range width {
						all.Go(func() { c.start(ctx, n, c.spec("worker")) })
					}
					all.Wait()
					ids := map[string]bool{}
					for _, a := range n.Find("worker") {
						me, err := sandbox.Call[int, who](ctx, a, "who", 0)
						if err != nil || me.Name != "worker" || me.ID != a.Ref().ID {
							c.Error(me, err)
						}
						ids[me.ID] = true
					}
					if len(ids) != width {
						c.Errorf("%d of %d are there", len(ids), width)
					}
					return nil
				}, sandbox.Grace(longGrace))
			})
		})
	}
}

func TestActorsFindEachOther(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			s := c.spec("worker")
			s.Name, s.Finds = "finder", true
			a := c.start(ctx, n, s)
			awaited := make(chan string, 1)
			go func() {
				id, err := sandbox.Call[string, string](ctx, a, "await", "late")
				if err != nil {
					c.Error(err)
				}
				awaited <- id
			}()
			s = c.spec("worker")
			s.Name = "late"
			b := c.start(ctx, n, s)
			if id := <-awaited; id != b.Ref().ID {
				c.Errorf("awaited %s, want %v", id, b.Ref())
			}
			ids, err := sandbox.Call[string, []string](ctx, a, "find", "late")
			if err != nil || len(ids) != 1 || ids[0] != b.Ref().ID {
				c.Error(ids, err)
			}
			if got, err := sandbox.Call[target, int](ctx, a, "call", target{ids[0], "double", 3}); got != 6 || err != nil {
				c.Error(got, err)
			}
			if ids, err = sandbox.Call[string, []string](ctx, a, "find", "nobody"); len(ids) != 0 || err != nil {
				c.Error(ids, err)
			}
			if err := b.Cancel(ctx, "enough"); err != nil {
				return err
			}
			if ids, err = sandbox.Call[string, []string](ctx, a, "find", "late"); len(ids) != 0 || err != nil {
				c.Error(ids, err)
			}
			return nil
		})
	})
}
