package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// HandshakeCap bounds the body of a frame, in bytes, until Welcome.
	HandshakeCap = 4 << 10
	// DefaultCap bounds it afterwards.
	DefaultCap = 1 << 20
)

// Conn is one end of a connected Unix stream socket that carries frames. One
// goroutine may receive while another one sends; Close may come from anywhere,
// any number of times, and unblocks both.
type Conn struct {
	f   *os.File
	raw syscall.RawConn
	cap atomic.Int64
}

// NewConn takes ownership of f, a connected Unix stream socket. The cap begins
// at HandshakeCap. f becomes non-blocking, and with it every duplicate of it.
func NewConn(f *os.File) (*Conn, error) {
	f, raw, err := adopt(f)
	if err != nil {
		return nil, fmt.Errorf("ipc: connection: %w", err)
	}
	c := &Conn{f: f, raw: raw}
	c.cap.Store(HandshakeCap)
	return c, nil
}

// adopt makes f wait in the runtime's poller, so that Close ends a wait. A file that is not there already gets a descriptor of its own.
func adopt(f *os.File) (*os.File, syscall.RawConn, error) {
	if f.SetDeadline(time.Time{}) != nil {
		old := f
		defer old.Close()
		raw, err := old.SyscallConn()
		if err != nil {
			return nil, nil, err
		}
		var fd int
		err2 := raw.Control(func(p uintptr) {
			if fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0); err == nil {
				if err = unix.SetNonblock(fd, true); err != nil {
					unix.Close(fd)
				}
			}
		})
		if err = errors.Join(err2, err); err != nil {
			return nil, nil, err
		}
		f = os.NewFile(uintptr(fd), old.Name())
		if err := f.SetDeadline(time.Time{}); err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("%s cannot be polled, is it a socket: %w", old.Name(), err)
		}
	}
	raw, err := f.SyscallConn()
	return f, raw, err
}

// Close ends the connection and whatever blocks on it. A second Close is nil.
func (c *Conn) Close() error { return closeFile(c.f) }

// Hangup tells the peer that nothing more will be sent or read. What it has sent can still be received.
func (c *Conn) Hangup() error {
	var err error
	poll := c.raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return sysErr(poll, err)
}

func closeFile(f *os.File) error {
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// until arranges that interrupt is called when ctx ends. stop undoes it; where
// ctx was first, it waits for interrupt to be over and returns why ctx ended.
func until(ctx context.Context, interrupt func()) (stop func() error) {
	if ctx.Done() == nil {
		return func() error { return nil }
	}
	over := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(over)
		interrupt()
	})
	return func() error {
		if cancel() {
			return nil
		}
		<-over
		return ended(ctx)
	}
}

// ended says why ctx has ended; nil: it has not.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != err {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// sysErr gives an error of RawConn or a system call on a socket its meaning.
func sysErr(poll, call error) error {
	switch {
	case poll != nil: // the poller has one more, closing, which os does not translate here
		return fmt.Errorf("%w: %w", os.ErrClosed, poll)
	case errors.Is(call, unix.EPIPE), errors.Is(call, unix.ECONNRESET):
		return fmt.Errorf("%w: %w", ErrPeerGone, call)
	}
	return call
}
