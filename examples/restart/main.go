// Restart supervises an actor that crashes now and then. Calls wait while it is
// started again, and its epoch tells its lives apart.
//
//	go run ./examples/restart
//
// Non-goals: keeping what a life knew; the next one starts afresh.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

var calls int // of this life

// Answer says in which life of the actor it was given.
type Answer struct {
	Epoch uint64
	Call  int
}

var flaky = sandbox.Func("flaky", func(ctx context.Context, _ string) (Answer, error) {
	if calls++; calls > 2 {
		os.Exit(7)
	}
	return Answer{peer.From(ctx).Epoch, calls}, nil
})

func main() {
	sandbox.Main()
	strategy := sandbox.OneForOne{Restarts: sandbox.Restarts{Most: 5, Within: time.Minute, Backoff: 10 * time.Millisecond}}
	err := sandbox.Run(context.Background(), func(ctx context.Context, n *sandbox.Nursery) error {
		actor, err := n.Start(ctx, flaky.Spec())
		if err != nil {
			return err
		}
		for range 7 {
			answer, err := flaky.Call(ctx, actor, "")
			var died *sandbox.ActorError
			switch {
			case errors.As(err, &died):
				fmt.Printf("it ended with code %d; the next call waits for its next life\n", died.Report.Exit.Code)
			case err != nil:
				return err
			default:
				fmt.Printf("life %d, call %d\n", answer.Epoch, answer.Call)
			}
		}
		return nil
	}, sandbox.Supervise(strategy))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
