// Pipeline sends items through two actors. Every stage holds a window of items
// at most: a slow last stage slows the first one, and nothing is lost.
//
//	go run ./examples/pipeline
//
// Non-goals: stages that are added while it runs.
package main

import (
	"context"
	"fmt"
	"os"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

const items = 10000

func main() {
	if len(os.Args) == 2 { // a stage: this program, started as an actor
		var mux peer.Mux
		switch os.Args[1] {
		case "square":
			peer.HandleStream(&mux, "stage", stage(func(n int) int { return n * n }))
		case "increment":
			peer.HandleStream(&mux, "stage", stage(func(n int) int { return n + 1 }))
		}
		if err := peer.Serve(context.Background(), &mux); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := sandbox.Run(context.Background(), pipeline); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// stage applies f to every item that comes.
func stage(f func(int) int) func(context.Context, string, peer.ServerStream[int, int]) (int, error) {
	return func(ctx context.Context, _ string, s peer.ServerStream[int, int]) (count int, err error) {
		if err := s.Started(ctx, "ready"); err != nil {
			return 0, err
		}
		for n, err := range s.All(ctx) {
			if err != nil {
				return count, err
			}
			if err := s.Send(ctx, f(n)); err != nil {
				return count, err
			}
			count++
		}
		return count, s.CloseSend()
	}
}

func pipeline(ctx context.Context, n *sandbox.Nursery) error {
	first, err := open(ctx, n, "square")
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := open(ctx, n, "increment")
	if err != nil {
		return err
	}
	defer second.Close()
	failed := make(chan error, 2)
	go func() { // into the first
		for i := range items {
			if err := first.Send(ctx, i); err != nil {
				failed <- err
				return
			}
		}
		failed <- first.CloseSend()
	}()
	go func() { // from the first into the second
		for v, err := range first.All(ctx) {
			if err == nil {
				err = second.Send(ctx, v)
			}
			if err != nil {
				failed <- err
				return
			}
		}
		failed <- second.CloseSend()
	}()
	sum := 0
	for v, err := range second.All(ctx) { // out of the second
		if err != nil {
			return err
		}
		sum += v
	}
	for range 2 {
		if err := <-failed; err != nil {
			return err
		}
	}
	var count int
	if err := second.Result(ctx, &count); err != nil {
		return err
	}
	fmt.Println(count, "items, sum", sum)
	return nil
}

func open(ctx context.Context, n *sandbox.Nursery, what string) (*sandbox.ClientStream[int, int], error) {
	spec := sandbox.This(what)
	spec.Name = what
	actor, err := n.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return sandbox.OpenStream[int, int](ctx, actor, "stage", "")
}
