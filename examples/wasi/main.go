// Wasi is an actor that is called, and calls back: as a WebAssembly module by
// the backend "wasm", or as a program of this machine by any other one.
//
//	GOOS=wasip1 GOARCH=wasm go build -o wasi.wasm ./examples/wasi
//
// Its supervisor starts it with sandbox.Spec{Backend: "wasm", Peer: true, …}.
//
// Non-goals: being run by itself; docs/wasm.md has a program that is.
package main

import (
	"context"
	"fmt"
	"os"

	"sandboxd/sandbox/peer"
)

func main() {
	var mux peer.Mux
	peer.Handle(&mux, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	peer.Handle(&mux, "greet", func(ctx context.Context, name string) (string, error) {
		motto, err := peer.Call[string, string](ctx, peer.From(ctx), "motto", name) // which the supervisor serves
		return "hello, " + name + ": " + motto, err
	})
	if err := peer.Serve(context.Background(), &mux); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
