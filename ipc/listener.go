package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Backlog is how many connections may wait to be accepted at Listen's sockets.
// More get EAGAIN, which harms the one actor whose socket it is.
const Backlog = 8

// Listener accepts connections at one actor's socket. Close may come from
// anywhere, any number of times; one goroutine may accept.
type Listener struct {
	f   *os.File
	raw syscall.RawConn
}

// NewListener takes ownership of f, a listening Unix stream socket, which may
// have been made by another process. f becomes non-blocking, and with it every
// duplicate of it.
func NewListener(f *os.File) (*Listener, error) {
	f, raw, err := adopt(f)
	if err != nil {
		return nil, fmt.Errorf("ipc: listener: %w", err)
	}
	l := &Listener{f: f, raw: raw}
	for _, o := range []struct {
		opt, want int
		name      string
	}{{unix.SO_DOMAIN, unix.AF_UNIX, "Unix"}, {unix.SO_TYPE, unix.SOCK_STREAM, "stream"}, {unix.SO_ACCEPTCONN, 1, "listening"}} {
		var got int
		poll := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, o.opt) })
		if err = errors.Join(poll, err); err == nil && got != o.want {
			err = unix.EINVAL
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("ipc: listener: %s is not a %s socket: %w", f.Name(), o.name, err)
		}
	}
	return l, nil
}

// Listen makes the socket file path, at most 107 bytes long, and listens. The
// file's mode is 0666, since connecting needs write permission and the peer is
// another user: the directory above must keep strangers out. Close leaves the
// file; whoever made its directory removes both.
func Listen(path string) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("ipc: listen at %s: socket: %w", path, err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		if err = os.Chmod(path, 0o666); err == nil {
			err = unix.Listen(fd, Backlog)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ipc: listen at %s: %w", path, err)
	}
	return NewListener(os.NewFile(uintptr(fd), path))
}

// Accept waits for the next connection, whoever made it: see PeerCred. The end
// of ctx ends the wait and leaves the Listener as it was.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	stop := until(ctx, func() { _ = l.f.SetReadDeadline(time.Unix(1, 0)) })
	fd, err := l.accept()
	if ended := stop(); ended != nil {
		if err == nil {
			unix.Close(fd)
		}
		_ = l.f.SetReadDeadline(time.Time{})
		err = ended
	}
	if err != nil {
		return nil, fmt.Errorf("ipc: accept at %s: %w", l.f.Name(), err)
	}
	return NewConn(os.NewFile(uintptr(fd), l.f.Name()))
}

func (l *Listener) accept() (fd int, err error) {
	poll := l.raw.Read(func(s uintptr) bool {
		for {
			fd, _, err = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if err != unix.EINTR && err != unix.ECONNABORTED {
				return err != unix.EAGAIN
			}
		}
	})
	if poll != nil || err != nil {
		return -1, sysErr(poll, err)
	}
	return fd, nil
}

// Close ends the listening and an Accept that waits. A second Close is nil.
func (l *Listener) Close() error { return closeFile(l.f) }
