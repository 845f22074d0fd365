// Coderunner runs Python code that somebody sent, under limits, and shows its
// output as it comes.
//
//	go run ./examples/coderunner 'for i in range(3): print(i)'
//
// Non-goals: talking to the code; see docs/actors.md for programs that are called.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"sandboxd/sandbox"
)

func main() {
	code := "while True: pass"
	if len(os.Args) > 1 {
		code = os.Args[1]
	}
	report, err := sandbox.Exec(context.Background(), sandbox.Spec{
		Name: "code",
		Argv: []string{"python3", "-u", "-c", code},
		Limits: sandbox.Limits{
			Timeout: 2 * time.Second,
			PIDs:    16,
			Output:  64 << 10,
		},
		Stdout: os.Stdout,
		Stderr: os.Stdout,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("-- %s, code %d\n", report.Exit.Reason, report.Exit.Code)
}
