package sandboxtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
	"sandboxd/sandbox/sandboxtest"
)

func TestFirst(t *testing.T) {
	var mux peer.Mux
	peer.Handle(&mux, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	peer.Handle(&mux, "fail", func(context.Context, int) (int, error) { return 0, errors.New("no") })
	peer.Handle(&mux, "sleep", func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
	m := sandboxtest.Memory{"worker": sandboxtest.Serve(&mux), "bad": func(ctx context.Context, env *sandboxtest.Env) int { return 3 }}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	err := sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
		a, err := n.Start(ctx, sandbox.Spec{Argv: []string{"worker"}, Peer: true})
		if err != nil {
			return err
		}
		got, err := sandbox.Call[int, int](ctx, a, "double", 21)
		if err != nil || got != 42 {
			t.Errorf("%d, %v", got, err)
		}
		_, err = sandbox.Call[int, int](ctx, a, "fail", 21)
		t.Log(err)
		c2, s2 := context.WithTimeout(ctx, 50*time.Millisecond)
		defer s2()
		_, err = sandbox.Call[int, int](c2, a, "sleep", 21)
		t.Log(err, errors.Is(err, context.DeadlineExceeded))
		return nil
	}, sandbox.On(m))
	if err != nil {
		t.Fatal(err)
	}
	err = sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
		a, err := n.Start(ctx, sandbox.Spec{Argv: []string{"worker"}, Peer: true})
		if err != nil {
			return err
		}
		if _, err := n.Go(ctx, sandbox.Spec{Argv: []string{"bad"}}); err != nil {
			return err
		}
		_, err = sandbox.Call[int, int](ctx, a, "sleep", 21)
		t.Log(err)
		return err
	}, sandbox.On(m))
	t.Log(err)
}
