package spawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
)

// DefaultSocket is where a program with a private root finds the actor's socket.
const DefaultSocket = "/run/sandboxd/peer.sock"

// SocketEnv tells a program whose socket is elsewhere the path: a place, not a proof.
const SocketEnv = "SANDBOXD_PEER"

// peer is an actor whose socket stays open for its program.
type peer struct {
	*actor
	uid  int           // of the program, as this process sees it
	turn chan struct{} // one waits at the listener at a time
}

// KeepSocket leaves the actor's socket open for its program, whose uid this
// process sees as uid, and makes Finish return a Process with Peers. It is
// called before Finish or not at all.
func (p *Parked) KeepSocket(uid int) { p.actor.keep = &peer{p.actor, uid, make(chan struct{}, 1)} }

// quiet ends what could be taken for the program before there is one.
func (a *actor) quiet() {
	fd := a.child.Returned[0]
	if a.keep == nil { // nobody else may connect from here on; the close, which takes longer, comes later
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		return
	}
	for range 8 * ipc.MaxStrangers { // far more than the backlog
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		unix.Close(c)
	}
}

// breath is how long Accept rests after ipc.MaxStrangers strangers in a row: it may not be kept busy.
const breath = 10 * time.Millisecond

// Accept implements Peers.
func (p *peer) Accept(ctx context.Context) (*ipc.Conn, ipc.Cred, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.child.Exited():
			cancel(os.ErrProcessDone)
		case <-ctx.Done():
		}
	}()
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done(): // the listener is another one's, and its deadline too
		return nil, ipc.Cred{}, context.Cause(ctx)
	}
	for strangers := 1; ; strangers++ {
		c, cred, err := p.next(ctx)
		select {
		case <-p.child.Exited(): // whoever it was is dead
			if c != nil {
				c.Close()
			}
			return nil, ipc.Cred{}, os.ErrProcessDone
		default:
		}
		if !errors.Is(err, ipc.ErrStranger) {
			return c, cred, err
		}
		if strangers%ipc.MaxStrangers == 0 {
			select {
			case <-time.After(breath):
			case <-ctx.Done():
			}
		}
	}
}

// Shut implements Peers.
func (p *peer) Shut() error { return p.listener.Close() }

// next takes one connection; ErrStranger if it is none of the actor's.
func (p *peer) next(ctx context.Context) (*ipc.Conn, ipc.Cred, error) {
	c, err := p.listener.Accept(ctx)
	if err != nil {
		return nil, ipc.Cred{}, err
	}
	cred, err := p.check(c)
	if err != nil {
		c.Close()
		return nil, ipc.Cred{}, err
	}
	return c, cred, nil
}

// check tells whether who connected is a process of the actor. A pid is a
// number that may be used again, so all that is read by it counts only if the
// process still lives afterwards, which a pidfd tells. One of the socket's own
// (Linux 6.5) leaves no race: the process that connected is the one whose
// ancestors were read. Before 6.5 the pidfd is opened by number, and a stranger
// could connect and die, and a process of the actor get its number, before we
// look: then the actor is said to have opened a connection that the stranger
// left to somebody. That takes a stranger with the program's own uid and a way
// to its socket, which is one who could speak through the program anyway.
func (p *peer) check(c *ipc.Conn) (ipc.Cred, error) {
	cred, err := ipc.PeerCred(c)
	if err != nil {
		return cred, err
	}
	if cred.PID == p.pid || int(cred.UID) != p.uid {
		return cred, ipc.ErrStranger
	}
	pidfd, err := ipc.PeerPidfd(c)
	if errors.Is(err, unix.ENOPROTOOPT) {
		pidfd, err = unix.PidfdOpen(cred.PID, 0)
	}
	switch {
	case errors.Is(err, ipc.ErrPeerGone), errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		return cred, ipc.ErrStranger // it is dead, and a process of the actor is not known by its number any more
	case err != nil:
		return cred, fmt.Errorf("peer of actor: %w", err)
	}
	defer unix.Close(pidfd)
	if !descends(cred.PID, p.pid) || !alive(pidfd) || !p.alive() {
		return cred, ipc.ErrStranger
	}
	return cred, nil
}

// alive tells whether the init has not ended, and so its number is its own.
func (a *actor) alive() bool {
	a.signals.Lock()
	defer a.signals.Unlock()
	return a.child.Pidfd >= 0 && alive(a.child.Pidfd)
}

// alive tells whether a process has not ended.
func alive(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if err != unix.EINTR {
			return err == nil && n == 0
		}
	}
}

// deepest is how many generations below its init a peer may be: each costs two looks at /proc.
const deepest = 256

// descends tells whether pid is below init, if both live all the while. An
// orphan's parent changes to one that exists already, so a process that has
// the same parent before and after we looked at that one had it in between:
// the way up is read again, from the top down, and must be the same. Where an
// ancestor ended meanwhile, as that of a daemon does, we look once more.
func descends(pid, init int) bool {
	for range 4 {
		way := []int{pid}
		for at := pid; at != init && at > 1 && len(way) <= deepest; {
			up, err := parent(at)
			if err != nil {
				break
			}
			way, at = append(way, up), up
		}
		if last := way[len(way)-1]; last <= 1 && last != init || len(way) > deepest {
			return false
		}
		if same(way) && way[len(way)-1] == init {
			return len(way) > 1
		}
	}
	return false
}

// same tells whether each process of the way still has the next one as its parent.
func same(way []int) bool {
	for i := len(way) - 2; i >= 0; i-- {
		if up, err := parent(way[i]); err != nil || up != way[i+1] {
			return false
		}
	}
	return true
}

// parent is that of a process, from /proc/PID/stat: pid (comm) state ppid.
func parent(pid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // comm may hold anything
	if len(f) < 2 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return strconv.Atoi(string(f[1]))
}

// WithPeers gives p, which wraps inner, the Peers of inner, where that has them.
func WithPeers(p, inner Process) Process {
	peers, ok := inner.(Peers)
	if !ok {
		return p
	}
	return struct {
		Process
		Peers
	}{p, peers}
}
