package sandboxtest

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"sandboxd/ipc"
	"sandboxd/sandbox/peer"
)

// Main runs the program as this very process, which was started as an actor in
// a real sandbox, and gives its exit status. So the programs of a test with
// Memory are also those of one with a sandbox.Host.
func (p Program) Main() int {
	signals := make(chan syscall.Signal, 16)
	return p(context.Background(), &Env{
		Args: os.Args, Environ: os.Environ(), Signals: signals,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		take: func() {
			all := make(chan os.Signal, 16)
			signal.Notify(all, syscall.SIGTERM)
			go func() {
				for s := range all {
					select {
					case signals <- s.(syscall.Signal):
					default:
					}
				}
			}()
		},
		dial: func(context.Context) (io.ReadWriteCloser, error) {
			path := os.Getenv("SANDBOXD_PEER")
			if path == "" {
				path = peer.Socket
			}
			return ipc.Dial(path)
		},
	})
}
