package ipc

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Dial connects to the Unix stream socket at path.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("ipc: socket: %w", err)
	}
	for err = unix.EINTR; err == unix.EINTR; { // blocking: a backlog that is full is waited for
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("ipc: connect: %w", err)
	}
	return NewConn(os.NewFile(uintptr(fd), path))
}
