// Pool has untrusted text files counted by a pool of workers. A file that
// crashes its worker costs that file: the worker is started again.
//
//	go run ./examples/pool FILE...
//
// Non-goals: a queue that outlives the program.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"sandboxd/sandbox"
)

// Counts is what a worker finds in a text.
type Counts struct{ Lines, Words int }

var count = sandbox.Func("count", func(_ context.Context, text []byte) (Counts, error) {
	if bytes.Contains(text, []byte("CRASH")) {
		os.Exit(3) // as a bug in a parser would
	}
	return Counts{bytes.Count(text, []byte("\n")), len(bytes.Fields(text))}, nil
})

const workers = 2

func main() {
	sandbox.Main()
	results := make([]string, len(os.Args)-1)
	err := sandbox.Run(context.Background(), func(ctx context.Context, n *sandbox.Nursery) error {
		files := make(chan int)
		var pool sync.WaitGroup
		for range workers {
			worker, err := n.Start(ctx, count.Spec())
			if err != nil {
				return err
			}
			pool.Go(func() {
				for i := range files {
					results[i] = one(ctx, worker, os.Args[1+i])
				}
			})
		}
		for i := range results {
			files <- i
		}
		close(files)
		pool.Wait()
		return nil
	}, sandbox.Supervise(sandbox.OneForOne{Restarts: sandbox.Restarts{Most: 10}}))
	for _, r := range results {
		fmt.Println(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// one counts one file, and waits where its worker is being started again.
func one(ctx context.Context, worker *sandbox.Actor, file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	c, err := count.Call(ctx, worker, text)
	var died *sandbox.ActorError
	switch {
	case errors.As(err, &died):
		return fmt.Sprintf("%s: it crashed the worker", file)
	case err != nil:
		return fmt.Sprintf("%s: %v", file, err)
	}
	return fmt.Sprintf("%s: %d lines, %d words", file, c.Lines, c.Words)
}
