package sandboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
	"sandboxd/sandbox/sandboxtest"
)

// A worker whose connection breaks while it answers is lost, and the caller is told so.
func ExampleFaults() {
	var mux peer.Mux
	peer.Handle(&mux, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	programs := sandboxtest.Memory{"worker": sandboxtest.Serve(&mux)}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	// Frame 0 that the supervisor reads is the greeting, frame 1 the first answer.
	faults := sandboxtest.Faults{Do: sandboxtest.Truncate, At: 1}
	_ = sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
		worker, err := n.Start(ctx, sandbox.Spec{Argv: []string{"worker"}, Peer: true})
		if err != nil {
			return err
		}
		_, err = sandbox.Call[int, int](ctx, worker, "double", 21)
		fmt.Println("lost:", errors.Is(err, sandbox.ErrLost))
		return err
	}, sandbox.On(programs), sandbox.Transport(faults.Wrap))
	// Output: lost: true
}
