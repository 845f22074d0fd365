package ipc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a multiplexer needs of a Conn that it frames by itself. Nothing here
// closes the Conn, knows the cap, or takes descriptors: read(2) installs none,
// so those that a peer sends along are gone.

// Read takes what there is, waiting for at least one byte; io.EOF at the end.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.f.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return 0, fmt.Errorf("ipc: read: %w", fileErr(err))
}

// SetReadDeadline is when Read gives up, with os.ErrDeadlineExceeded, having taken nothing; zero: never.
func (c *Conn) SetReadDeadline(t time.Time) error { return fileErr(c.f.SetReadDeadline(t)) }

// Write sends all of p, waiting for room, or fails; n is then what had gone.
func (c *Conn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		sent := 0
		poll := c.raw.Write(func(fd uintptr) bool {
			sent, err = sendSome(fd, p[n:])
			return sent > 0 || err != nil
		})
		n += sent
		if poll != nil || err != nil {
			return n, fmt.Errorf("ipc: write: %w", sysErr(poll, err))
		}
	}
	return n, nil
}

// TryWrite sends as much of p as there is room for, and never waits, neither
// for room nor for a Write beside it. 0 and nil: there is none.
func (c *Conn) TryWrite(p []byte) (n int, err error) {
	if poll := c.raw.Control(func(fd uintptr) { n, err = sendSome(fd, p) }); poll != nil || err != nil {
		return 0, fmt.Errorf("ipc: write: %w", sysErr(poll, err))
	}
	return n, nil
}

// sendSome is one send(2) that does not wait and raises no SIGPIPE.
func sendSome(fd uintptr, p []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return max(n, 0), err
		}
	}
}

// fileErr gives an error of os.File the meaning that sysErr gives others.
func fileErr(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return sysErr(nil, errno)
	}
	if errors.Is(err, os.ErrClosed) {
		return os.ErrClosed
	}
	return err
}
