// Isolate runs one Go function in a sandbox of its own: no second program, no
// root, no set-up.
//
//	go run ./examples/isolate
//
// Non-goals: more than one call; see pool.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"sandboxd/sandbox"
)

// parse is a parser that nobody should trust with what the caller can reach.
var parse = sandbox.Func("parse", func(_ context.Context, text string) (int, error) {
	if _, err := os.ReadDir("/root"); err == nil {
		return 0, errors.New("your files can be seen")
	}
	if text == "bomb" {
		hog := make([]byte, 1<<30) // twice what an actor may have
		for i := 0; i < len(hog); i += 4096 {
			hog[i] = 1
		}
		return 0, errors.New("nobody stopped me")
	}
	return len(text), nil
})

func main() {
	sandbox.Main()
	for _, text := range []string{"hello", "bomb"} {
		n, err := parse.Run(context.Background(), text)
		var died *sandbox.ActorError
		switch {
		case errors.As(err, &died) && died.Report != nil:
			fmt.Printf("parse %q: the actor ended: %s\n", text, died.Report.Exit.Reason)
		case err != nil: // where control groups are not ours to use, memory has no limit
			fmt.Printf("parse %q: %v\n", text, err)
		default:
			fmt.Printf("parse %q: %d\n", text, n)
		}
	}
}
