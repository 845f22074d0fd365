package seccomp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Notification is one system call that a filter answered with [Notify]. Its
// caller sleeps until it is killed or the listener is closed.
type Notification struct {
	Syscall string // name of the call for reports, see [Arch.Name]
	Nr      int
	Arch    Arch
	PID     int // thread that called, in the reader's pid namespace; 0 if not visible there
	Args    [6]uint64
}

// Listener reads the notifications of one filter (seccomp_unotify(2)). It never
// answers them: whoever owns it kills the sandbox instead. Everything it
// returns is the word of a hostile program, fit for a report and no decision,
// and PID may name another process as soon as the caller is dead.
type Listener struct {
	file   *os.File
	closed atomic.Bool
}

// NewListener takes ownership of the descriptor that SECCOMP_FILTER_FLAG_NEW_LISTENER
// returned, usually received by SCM_RIGHTS, and closes it also when it fails.
func NewListener(fd int) (*Listener, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("seccomp: listener: set descriptor %d nonblocking: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "seccomp-notify")
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		file.Close()
		return nil, fmt.Errorf("seccomp: listener: descriptor %d cannot be polled, it is no listener: %w", fd, err)
	}
	return &Listener{file: file}, nil
}

// notif is struct seccomp_notif of <linux/seccomp.h>.
type notif struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

// Recv waits for a notification. It returns io.EOF once no process is left
// under the filter, before Linux 6.11 not even a zombie, os.ErrClosed after Close, and the cause of ctx when that is
// done first. One Recv runs at a time.
//
// A caller that takes a signal while it sleeps makes the same call, and so the
// same notification, again, unless the filter was installed with
// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (since Linux 5.19).
//
// The kernel's read blocks whatever the flags of the descriptor say, so Recv
// polls first. A caller killed between the two leaves the read waiting for the
// next notification; since Linux 6.11 it also ends with the last process.
func (l *Listener) Recv(ctx context.Context) (Notification, error) {
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		l.file.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // fails on a closed file only, and then Read does too
		close(expired)
	})
	n, err := l.recv()
	if !stop() {
		<-expired
		l.file.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = context.Cause(ctx)
		}
	}
	if err != nil && err != io.EOF {
		return Notification{}, fmt.Errorf("seccomp: listener: receive: %w", err)
	}
	return n, err
}

func (l *Listener) recv() (Notification, error) {
	conn, err := l.file.SyscallConn()
	if err != nil {
		return Notification{}, err
	}
	var raw notif
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		var done bool
		done, failed = receive(int(fd), &raw)
		return done
	})
	if err == nil {
		err = failed
	} else if l.closed.Load() {
		err = os.ErrClosed // what a raw connection returns instead is not exported
	}
	if err != nil {
		return Notification{}, err
	}
	a := Arch(raw.arch)
	return Notification{Syscall: a.Name(int(raw.nr)), Nr: int(raw.nr), Arch: a, PID: int(raw.pid), Args: raw.args}, nil
}

// receive reports false when there is nothing to read yet.
func receive(fd int, raw *notif) (bool, error) {
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(p, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return true, err
		case p[0].Revents&unix.POLLIN == 0 && p[0].Revents&unix.POLLHUP != 0:
			return true, io.EOF
		case p[0].Revents&unix.POLLIN == 0:
			return false, nil
		}
		*raw = notif{} // the kernel refuses anything but zeroes
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(raw)))
		switch errno {
		case 0:
			return true, nil
		case unix.EINTR, unix.ENOENT: // ENOENT: the caller died meanwhile
			continue
		}
		return true, errno
	}
}

// Close closes the descriptor and ends a Recv under way. Callers that sleep in
// a notification then fail with ENOSYS.
func (l *Listener) Close() error {
	l.closed.Store(true)
	return l.file.Close()
}
