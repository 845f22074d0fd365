//go:build !wasip1

package peer

import (
	"fmt"
	"io"
	"os"

	"sandboxd/ipc"
)

// dial connects to the actor's socket.
func dial() (io.ReadWriteCloser, error) {
	path := os.Getenv("SANDBOXD_PEER")
	if path == "" {
		path = Socket
	}
	conn, err := ipc.Dial(path)
	if err != nil {
		return nil, fmt.Errorf("at %s: %w", path, err)
	}
	return conn, nil
}
