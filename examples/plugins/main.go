// Plugins hosts plugins of different authors. Each is an actor of its own that
// may call what the host serves, and nothing else.
//
//	go run ./examples/plugins
//
// Non-goals: loading code that is not linked into this program; see sdk/python.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

// A plugin is given a text and gives one back.
type plugin = sandbox.Function[string, string]

var (
	shout = sandbox.Func("shout", func(_ context.Context, s string) (string, error) { return strings.ToUpper(s) + "!", nil })
	greet = sandbox.Func("greet", func(ctx context.Context, s string) (string, error) {
		name, err := peer.Call[string, string](ctx, peer.From(ctx), "setting", "user") // the host's verb
		return s + ", " + name, err
	})
	spy = sandbox.Func("spy", func(ctx context.Context, s string) (string, error) {
		return peer.Call[string, string](ctx, peer.From(ctx), "setting", "password")
	})
)

func main() {
	sandbox.Main()
	settings := map[string]string{"user": "Ada"}
	var host sandbox.Mux
	sandbox.Handle(&host, "setting", func(ctx context.Context, key string) (string, error) {
		if v, ok := settings[key]; ok {
			return v, nil
		}
		return "", fmt.Errorf("%w: setting %q for %s", sandbox.ErrDenied, key, sandbox.Caller(ctx).Name())
	})
	err := sandbox.Run(context.Background(), func(ctx context.Context, n *sandbox.Nursery) error {
		for _, p := range []plugin{greet, shout, spy} {
			actor, err := n.Start(ctx, p.Spec())
			if err != nil {
				return err
			}
			out, err := p.Call(ctx, actor, "hello")
			fmt.Printf("%s: %q %v\n", actor.Name(), out, err != nil)
		}
		return nil
	}, sandbox.Serve(&host))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
