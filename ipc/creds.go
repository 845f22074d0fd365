package ipc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Cred is who a peer is, as the kernel says and the peer cannot forge. Numbers
// are those of our own pid and user namespace.
type Cred struct {
	PID      int
	UID, GID uint32
}

func credOf(u *unix.Ucred) Cred { return Cred{PID: int(u.Pid), UID: u.Uid, GID: u.Gid} }

// PeerCred returns the process that connected, as of its connect(2)
// (SO_PEERCRED, unix(7)). A pid is only worth comparing while the process is
// held by a pidfd: numbers are used again. A peer in a pid namespace that we
// cannot see has pid 0, which is ErrStranger.
func PeerCred(c *Conn) (Cred, error) {
	var (
		u   *unix.Ucred
		err error
	)
	if poll := c.raw.Control(func(fd uintptr) {
		u, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); errors.Join(poll, err) != nil {
		return Cred{}, fmt.Errorf("ipc: peer credentials: %w", sysErr(poll, err))
	}
	if u.Pid == 0 {
		return Cred{}, fmt.Errorf("ipc: peer credentials: pid 0, the peer is in a pid namespace outside ours: %w", ErrStranger)
	}
	return credOf(u), nil
}

// PassCred makes Frame.Sender known for what is sent from now on (SO_PASSCRED,
// unix(7)): the program's process may speak on its init's connection.
func (c *Conn) PassCred() error {
	var err error
	if poll := c.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	}); errors.Join(poll, err) != nil {
		return fmt.Errorf("ipc: pass credentials: %w", sysErr(poll, err))
	}
	return nil
}

// PeerPidfd is a pidfd of the process that connected (SO_PEERPIDFD, Linux 6.5);
// the caller closes it. unix.ENOPROTOOPT: the kernel is older. The error of a
// peer that is dead and reaped is ErrPeerGone; newer kernels give a pidfd of that one too.
func PeerPidfd(c *Conn) (int, error) {
	var (
		fd  int
		err error
	)
	poll := c.raw.Control(func(s uintptr) { fd, err = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_PEERPIDFD) })
	switch {
	case poll == nil && err == nil:
		return fd, nil
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODATA):
		err = fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	return -1, fmt.Errorf("ipc: peer pidfd: %w", sysErr(poll, err))
}
