package main

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/sys/unix"

	"sandboxd/sandbox/peer"
)

// peerModule is the module whose functions let a program talk to its supervisor.
const peerModule = "sandboxd"

// What the functions return where it is not a number of bytes.
const (
	over   = 0  // nothing more will come
	notYet = -1 // nothing came in the time given
	broken = -2 // there is no connection, or the memory named is not the module's
)

// link is the program's connection to its supervisor, made when it is first
// used: a stream of bytes, in which it speaks docs/protocol.md.
type link struct {
	fd     int
	opened bool
}

// offer makes the functions.
func offer(ctx context.Context, r wazero.Runtime) error {
	l := &link{fd: -1}
	_, err := r.NewHostModuleBuilder(peerModule).
		NewFunctionBuilder().WithFunc(l.read).Export("peer_read").
		NewFunctionBuilder().WithFunc(l.write).Export("peer_write").
		Instantiate(ctx)
	return err
}

// open connects, once.
func (l *link) open() bool {
	if l.opened {
		return l.fd >= 0
	}
	l.opened = true
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: peer.Socket})
	}
	if err != nil {
		unix.Close(fd)
		return false
	}
	l.fd = fd
	return true
}

// read waits up to wait milliseconds (less than 0: for ever) for bytes, at most n of them, to at.
func (l *link) read(_ context.Context, m api.Module, at, n uint32, wait int32) int32 {
	b, ok := m.Memory().Read(at, min(n, 1<<30))
	if !ok || len(b) == 0 || !l.open() {
		return broken
	}
	for {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, int(wait))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return broken
		case ready == 0:
			return notYet
		}
		got, err := unix.Read(l.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || got == 0:
			return over
		}
		return int32(got)
	}
}

// write sends n bytes from at, and returns when they are on their way.
func (l *link) write(_ context.Context, m api.Module, at, n uint32) int32 {
	b, ok := m.Memory().Read(at, n)
	if !ok || n > 1<<30 || !l.open() {
		return broken
	}
	for len(b) > 0 {
		sent, err := unix.SendmsgN(l.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return broken
		}
		b = b[sent:]
	}
	return int32(n)
}
