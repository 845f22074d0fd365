package peer

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unsafe"
)

// What the worker that runs this module offers it, see docs/wasm.md.

//go:wasmimport sandboxd peer_read
func peerRead(p unsafe.Pointer, n uint32, waitMS int32) int32

//go:wasmimport sandboxd peer_write
func peerWrite(p unsafe.Pointer, n uint32) int32

// dial has nothing to do: the worker connects when it is first used.
func dial() (io.ReadWriteCloser, error) { return new(worker), nil }

// worker is the connection that the worker holds for us.
type worker struct{ closed atomic.Bool }

// The longest rest between two looks for something to read: a wait in the
// worker would stop all of this program, whose goroutines share one thread.
const longest = 5 * time.Millisecond

var errGone = errors.New("the supervisor is gone")

func (c *worker) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for rest := 50 * time.Microsecond; !c.closed.Load(); rest = min(2*rest, longest) {
		switch n := peerRead(unsafe.Pointer(&p[0]), uint32(len(p)), 0); {
		case n > 0:
			return int(n), nil
		case n == 0:
			return 0, io.EOF
		case n != -1:
			return 0, errGone
		}
		time.Sleep(rest)
	}
	return 0, os.ErrClosed
}

func (c *worker) Write(p []byte) (int, error) {
	switch {
	case c.closed.Load():
		return 0, os.ErrClosed
	case len(p) > 0 && peerWrite(unsafe.Pointer(&p[0]), uint32(len(p))) != int32(len(p)):
		return 0, errGone
	}
	return len(p), nil
}

// Close ends it on this side; the worker's goes with the worker.
func (c *worker) Close() error {
	c.closed.Store(true)
	return nil
}
