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

// Accept waits for the next connection, whoever made it: see PeerCred. The end
// of ctx ends the wait and leaves the Listener as it was: a connection that
// came at that moment is given to this Accept or to the next, and never lost.
func (l *Listener) Accept(ctx context.Context) (*Conn, error) {
	fd, err := -1, ended(ctx)
	if err == nil {
		stop := until(ctx, func() { _ = l.f.SetReadDeadline(time.Unix(1, 0)) })
		fd, err = l.accept()
		if ended := stop(); ended != nil {
			_ = l.f.SetReadDeadline(time.Time{})
			if err != nil {
				err = ended
			}
		}
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
