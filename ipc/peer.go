package ipc

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dial connects to the socket file path. It never blocks: a full backlog is
// EAGAIN.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("ipc: dial %s: socket: %w", path, err)
	}
	// Connect first: the poller reports a socket that is not connected as hung up.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ipc: dial %s: %w", path, err)
	}
	return NewConn(os.NewFile(uintptr(fd), path))
}

// SayHello is the init's half of the handshake up to Welcome, for peers in Go.
// Afterwards the peer sends Confined (see Confine), Ready or Failed.
func SayHello(ctx context.Context, c *Conn, h Hello) (Welcome, error) {
	if err := c.Send(ctx, &h); err != nil {
		return Welcome{}, err
	}
	c.SetCap(DefaultCap)
	f, err := c.Recv(ctx, 0)
	if err != nil {
		return Welcome{}, err
	}
	var w Welcome
	if err = w.UnmarshalBinary(f.Body); err == nil && w.Epoch != h.Epoch {
		err = &HandshakeError{"epoch", strconv.FormatUint(w.Epoch, 10), strconv.FormatUint(h.Epoch, 10)}
	}
	if err != nil {
		c.Close()
		return Welcome{}, err
	}
	return w, nil
}

// Confine sends Confined, with a listener's descriptor where listener is not
// nil, and waits for Proceed.
func Confine(ctx context.Context, c *Conn, m Confined, listener *os.File) error {
	var files []*os.File
	if listener != nil {
		files = append(files, listener)
	}
	if err := c.Send(ctx, &m, files...); err != nil {
		return err
	}
	f, err := c.Recv(ctx, 0)
	if err != nil {
		return err
	}
	if err := new(Proceed).UnmarshalBinary(f.Body); err != nil {
		c.Close()
		return err
	}
	return nil
}
