package sandboxtest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

// tree is a worker that may have children, which may have children, to that depth.
func tree(c *scope, depth int) sandbox.Spec {
	s := c.spec("worker")
	s.Name = "root"
	s.Kinds = map[string]sandbox.Spec{"deaf": c.spec("deaf"), "worker": c.spec("worker")}
	if depth > 1 {
		s.Kinds["worker"] = tree(c, depth-1)
	}
	return s
}

func TestGrandchildInAComputationIsTornDown(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 2))
			if _, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: 2, Breadth: 1, Leaf: "stuck"}); err != nil {
				return err
			}
			c.until("root.0.0")
			return nil
		}, sandbox.Grace(4*time.Second))
		if c.kinds(sandbox.Died) != 3 {
			c.Errorf("%d died", c.kinds(sandbox.Died))
		}
	})
}

func TestDeepTreeEndsInOneGrace(t *testing.T) {
	each(t, func(c *scope) {
		const grace = 2 * time.Second
		var noise atomic.Int64
		var began time.Time
		err := c.run(func(ctx context.Context, n *sandbox.Nursery) error {
			s := tree(c, 3)
			loud(&s, counter{&noise})
			a := c.start(ctx, n, s)
			made, err := sandbox.Call[growth, int](ctx, a, "grow", growth{Depth: 3, Breadth: 2, Noise: 1 << 20})
			if err != nil || made != 14 {
				c.Error(made, err)
			}
			_, err = sandbox.Call[[]string, string](ctx, n.Find("root.0.0")[0], "spawn", []string{"deaf", "deaf"})
			began = time.Now()
			return err
		}, sandbox.Grace(grace))
		if took := time.Since(began); took > 2*grace { // level by level it were at least 3
			c.Errorf("a tree took %v to end, with a grace of %v", took, grace)
		}
		if err != nil && !errors.Is(err, sandbox.ErrTooSlow) { // its parent's end may be quicker
			c.Error(err)
		}
		if noise.Load() != 14<<20 {
			c.Errorf("%d bytes of stderr", noise.Load())
		}
		if c.kinds(sandbox.Died) != 16 {
			c.Errorf("%d died", c.kinds(sandbox.Died))
		}
	})
}

func loud(s *sandbox.Spec, w counter) {
	s.Stderr = w
	for k, kind := range s.Kinds {
		loud(&kind, w)
		s.Kinds[k] = kind
	}
}

type counter struct{ n *atomic.Int64 }

func (w counter) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return len(p), nil
}

func TestPeerSpawnsCallsAndCancelsAChild(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 1))
			id, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"})
			if err != nil {
				return err
			}
			if got, err := sandbox.Call[target, int](ctx, a, "call", target{id, "double", 21}); got != 42 || err != nil {
				c.Error(got, err)
			}
			if got, err := sandbox.Call[string, int](ctx, a, "stream", id); got != 45 || err != nil {
				c.Error(got, err)
			}
			exit, err := sandbox.Call[string, peer.Exit](ctx, a, "cancel", id)
			if err != nil || exit.Reason != "exited" || exit.Code != 0 {
				c.Error(exit, err)
			}
			if _, err := sandbox.Call[target, int](ctx, a, "call", target{id, "double", 21}); !errors.Is(err, sandbox.ErrDenied) {
				c.Error(err) // gone is as if it had never been
			}
			_, err = sandbox.Call[int, int](ctx, a, "double", 1) // the host lives
			return err
		}, sandbox.Grace(longGrace))
		for _, e := range c.events {
			if e.Kind == sandbox.Spawned && e.Actor.Name == "kid" && e.Parent.Name != "root" {
				c.Errorf("the kid's parent is %v", e.Parent)
			}
		}
	})
}

func TestChildThatFailsIsItsParentsAffair(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 1))
			id, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"})
			if err != nil {
				return err
			}
			_, err = sandbox.Call[target, int](ctx, a, "call", target{id, "die", 6})
			if remote, ok := errors.AsType[*sandbox.RemoteError](err); !ok || !errors.Is(err, sandbox.ErrLost) || !strings.Contains(remote.Message, "code 6") {
				c.Errorf("%v; want it lost, with its report", err)
			}
			exit, err := sandbox.Call[string, peer.Exit](ctx, a, "wait", id)
			if exit.Code != 6 || exit.Reason != "exited" {
				c.Error(exit, err)
			}
			return a.Ping(ctx)
		})
	})
}

// An actor has so many children and no more, whoever asks at once; one that has ended makes room.
func TestChildrenAreLimited(t *testing.T) {
	const most = 1024
	c := newScope(t, memory) // thousands of processes show nothing more
	c.must(func(ctx context.Context, n *sandbox.Nursery) error {
		a := c.start(ctx, n, tree(c, 1))
		var ids [most + 100]string
		var errs [most + 100]error
		var next atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
					ids[i], errs[i] = sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"})
				}
			})
		}
		all.Wait()
		made := 0
		for i, err := range errs {
			if err == nil {
				made++
				continue
			}
			remote, ok := errors.AsType[*sandbox.RemoteError](err)
			if !ok || !errors.Is(err, sandbox.ErrBusy) || remote.Source.ID != "0" || !strings.Contains(remote.Message, "it has 1024 children, which is the most") {
				c.Fatalf("child %d: %v", i, err)
			}
		}
		if made != most || len(n.Find("kid")) != most {
			c.Fatalf("%d children, %d of them alive; want %d", made, len(n.Find("kid")), most)
		}
		first := n.Find("kid")[0].Ref().ID
		if _, err := sandbox.Call[string, peer.Exit](ctx, a, "cancel", first); err != nil {
			return err
		}
		if _, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"}); err != nil {
			return err
		}
		if _, err := sandbox.Call[string, peer.Exit](ctx, a, "wait", first); !errors.Is(err, sandbox.ErrDenied) {
			c.Errorf("the one that made room: %v", err) // is forgotten
		}
		_, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"})
		if !errors.Is(err, sandbox.ErrBusy) {
			c.Error(err)
		}
		return nil
	}, sandbox.Grace(longGrace))
}

func TestDeniedKindsAndIDs(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a, stranger := c.start(ctx, n, tree(c, 1)), c.start(ctx, n, c.spec("worker"))
			for _, kind := range []string{"", "root", "worker\x00"} {
				if _, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{kind, "x"}); !errors.Is(err, sandbox.ErrDenied) {
					c.Errorf("kind %q: %v", kind, err)
				}
			}
			for _, name := range []string{"a\nb", strings.Repeat("x", 129)} {
				if _, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", name}); !errors.Is(err, sandbox.ErrDenied) {
					c.Errorf("name %q: %v", name, err)
				}
			}
			for _, id := range []string{"", "0", "no.such", stranger.Ref().ID, a.Ref().ID} {
				if _, err := sandbox.Call[string, struct{}](ctx, a, "cancel", id); !errors.Is(err, sandbox.ErrDenied) {
					c.Errorf("cancel %q: %v", id, err)
				}
				if _, err := sandbox.Call[target, int](ctx, a, "call", target{id, "double", 1}); !errors.Is(err, sandbox.ErrDenied) {
					c.Errorf("call %q: %v", id, err)
				}
			}
			if _, err := sandbox.Call[[]string, string](ctx, stranger, "spawn", []string{"worker", ""}); !errors.Is(err, sandbox.ErrUnknownVerb) {
				c.Error(err) // its Spec allows no children, so it is not even asked
			}
			if _, err := sandbox.Call[string, []string](ctx, a, "find", "worker"); !errors.Is(err, sandbox.ErrUnknownVerb) {
				c.Error(err)
			}
			return stranger.Ping(ctx)
		})
	})
}

func TestChildCallsItsParent(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 1))
			if _, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"}); err != nil {
				return err
			}
			kid := n.Find("kid")[0]
			if got, err := sandbox.Call[target, int](ctx, kid, "call", target{a.Ref().ID, "double", 4}); got != 8 || err != nil {
				c.Error(got, err)
			}
			return nil
		})
	})
}

func TestErrorKeepsItsWay(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, tree(c, 1))
			id, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"})
			if err != nil {
				return err
			}
			_, err = sandbox.Call[target, int](ctx, a, "tell", target{ID: id, Verb: "fail"})
			remote, ok := errors.AsType[*sandbox.RemoteError](err)
			if !ok || remote.Source.ID != id || remote.Message != "told" || !slices.Contains(remote.Relay, a.Ref()) {
				c.Errorf("%+v", remote)
			}
			return nil
		})
	})
}

func TestParentTakesItsChildrenAlong(t *testing.T) {
	each(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			s := tree(c, 1)
			a := c.start(ctx, n, s)
			if _, err := sandbox.Call[[]string, string](ctx, a, "spawn", []string{"worker", "kid"}); err != nil {
				return err
			}
			kid := n.Find("kid")[0]
			if err := a.Cancel(ctx, "enough"); err != nil {
				return err
			}
			select { // not a moment later than its parent
			case <-kid.Done():
			default:
				c.Error("the child lives")
			}
			if len(n.Find("kid")) > 0 || len(n.Find("root")) > 0 {
				c.Error("they can still be found")
			}
			return nil
		}, sandbox.Grace(longGrace))
	})
}
