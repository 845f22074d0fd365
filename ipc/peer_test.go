package ipc

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// What the launcher and the init do in C, for tests.

// listenAt makes the socket file path and listens.
func listenAt(path string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Listen(fd, 8)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return NewListener(os.NewFile(uintptr(fd), path))
}

// dial connects to the socket file path. It never blocks: a full backlog is EAGAIN.
func dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	// Connect first: the poller reports a socket that is not connected as hung up.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return NewConn(os.NewFile(uintptr(fd), path))
}

// sayHello is the init's half of the handshake up to Welcome.
func sayHello(ctx context.Context, c *Conn, h Hello) (Welcome, error) {
	if err := c.Send(ctx, &h); err != nil {
		return Welcome{}, err
	}
	c.cap.Store(DefaultCap)
	f, err := c.Recv(ctx, 0)
	if err != nil {
		return Welcome{}, err
	}
	var w Welcome
	return w, w.UnmarshalBinary(f.Body)
}

// sayConfined sends Confined with a descriptor, and waits for Proceed.
func sayConfined(ctx context.Context, c *Conn, m Confined, listener *os.File) error {
	if err := c.Send(ctx, &m, listener); err != nil {
		return err
	}
	f, err := c.Recv(ctx, 0)
	if err != nil {
		return err
	}
	return new(Proceed).UnmarshalBinary(f.Body)
}
