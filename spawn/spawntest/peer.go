package spawntest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/rootfs"
	"sandboxd/spawn"
)

// peerTests are about the actor's socket and who may connect to it.
var peerTests = []test{
	{"PeerConnects", "", testPeerConnects},
	{"PeerEnds", "", testPeerEnds},
	{"PeerStrangers", "", testPeerStrangers},
	{"PeerBeforeProgram", Inspect, testPeerBeforeProgram},
	{"PeerFlood", "", testPeerFlood},
	{"PeerUnasked", "", testPeerUnasked},
	{"PeerDescriptors", "", testPeerDescriptors},
}

// peerRole is the role of a program that connects, as its arguments say.
const peerRole = "spawntest-peer"

func playPeer() error {
	path := os.Getenv(spawn.SocketEnv)
	if path == "" {
		path = spawn.DefaultSocket
	}
	again := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(os.Environ(), RoleEnv+"="+peerRole), os.Stdin, os.Stdout, os.Stderr
		return cmd
	}
	for args := os.Args[1:]; len(args) > 0; args = args[1:] {
		switch args[0] {
		case "talk": // says its word, and what it is answered
			c, err := dial(path)
			if err != nil {
				return err
			}
			fmt.Fprintln(c, args[1])
			answer, err := bufio.NewReader(c).ReadString('\n')
			fmt.Printf("%s: %s, %v\n", args[1], strings.TrimSpace(answer), err)
			return c.Close()
		case "child": // does the rest
			return again(args[1:]...).Run()
		case "daemon": // does the rest, without a parent that waits for it
			if err := again(append([]string{"leave"}, args[1:]...)...).Run(); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		case "leave":
			return again(append([]string{"orphan", fmt.Sprint(os.Getpid())}, args[1:]...)...).Start()
		case "orphan":
			for args = args[1:]; fmt.Sprint(os.Getppid()) == args[0]; {
				time.Sleep(time.Millisecond)
			}
		case "try":
			c, err := net.Dial("unix", path)
			if err == nil {
				c.Close()
			}
			fmt.Println(errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT))
		case "hung-up":
			c, err := net.Dial("unix", path)
			if err != nil {
				return err
			}
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				return errors.New("not hung up on")
			}
		case "flood":
			fmt.Println(flood(path, 10000) > 0)
		case "gone": // connects and is dead when anybody looks
			_ = again("flood").Run()
			fmt.Println("gone")
		case "fds":
			fds, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				return err
			}
			for _, fd := range fds {
				link, _ := os.Readlink("/proc/self/fd/" + fd.Name())
				fmt.Println(fd.Name(), strings.SplitN(link, ":", 2)[0])
			}
		case "stdin":
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
	}
	return nil
}

// dial waits for room in the backlog, which net.Dial does not.
func dial(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// flood connects as often as it can without waiting, and holds what it has until the process ends.
func flood(path string, most int) (n int) {
	for ; n < most; n++ {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil || unix.Connect(fd, &unix.SockaddrUnix{Name: path}) != nil {
			break
		}
	}
	return n
}

// peer starts a program that connects.
func (s *suite) peer(t *testing.T, b spawn.Backend, change func(*spawn.Request), args ...string) (*program, *spawn.Request) {
	t.Helper()
	var req *spawn.Request
	self := Self(t)
	p := s.stream(t, b, func(r *spawn.Request) {
		req, r.Peer = r, true
		r.Argv[0] = self
		if _, bare := s.lacks[Hidden]; !bare {
			r.Argv[0] = "/peer"
			r.Mounts = append(r.Mounts, rootfs.Mount{Source: self, Target: "/peer"})
		}
		r.Env = append(r.Env, RoleEnv+"="+peerRole, "GORACE=atexit_sleep_ms=0")
		if change != nil {
			change(r)
		}
	}, append([]string{""}, args...)...)
	return p, req
}

func (p *program) peers() spawn.Peers { return p.Process.(spawn.Peers) }

// accept is Accept of one that must come.
func (p *program) accept() *ipc.Conn {
	p.t.Helper()
	c, cred, err := p.peers().Accept(bounded(p.t))
	if errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%v: it says %q", err, p.err.all(p.t))
	} else if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	if cred.PID == p.PID() || !strings.Contains(fmt.Sprint(below(p.PID())), fmt.Sprintf("{%d ", cred.PID)) {
		p.t.Errorf("pid %d is none of the actor's", cred.PID)
	}
	return c
}

// answer reads the word that is said and answers it.
func (p *program) answer(c *ipc.Conn, word string) {
	p.t.Helper()
	b := make([]byte, 100)
	n, err := c.Read(b)
	if got := string(b[:n]); got != word+"\n" || err != nil {
		p.t.Errorf("read %q, %v, want %q", got, err, word)
	}
	if _, err := c.Write([]byte("heard " + word + "\n")); err != nil {
		p.t.Error(err)
	}
	if n, err := c.Read(b); n != 0 || err != io.EOF {
		p.t.Errorf("after the end: %d, %v", n, err)
	}
}

// refused fails if Accept gives somebody.
func (p *program) refused() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if c, cred, err := p.peers().Accept(ctx); err == nil {
		c.Close()
		p.t.Errorf("accepted %+v", cred)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		p.t.Error(err)
	}
}

// The program, its child's child and a daemon of its connect.
func testPeerConnects(t *testing.T, s *suite) {
	b := s.open(t)
	for word, args := range map[string][]string{"one": {"talk"}, "two": {"child", "child", "talk"}, "three": {"daemon", "talk"}} {
		p, _ := s.peer(t, b, nil, append(args, word)...)
		l := p.lines()
		p.answer(p.accept(), word)
		l.want(word + ": heard " + word + ", <nil>")
		p.stdin.Close()
		if exit := p.wait(); exit.Status != 0 {
			t.Errorf("%s: %+v, stderr %q", word, exit, p.err.all(t))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A wait ends with its context and with the actor, in whatever order.
func testPeerEnds(t *testing.T, s *suite) {
	b := s.open(t)
	p, _ := s.peer(t, b, nil, "talk", "one", "talk", "two")
	defer p.stdin.Close()
	over, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrNoProgress)
	if _, _, err := p.peers().Accept(over); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a wait whose context is over: %v", err)
	}
	p.answer(p.accept(), "one")
	p.wait()
	if _, _, err := p.peers().Accept(bounded(t)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a wait for an actor that has ended: %v", err)
	}
	for _, end := range []func(*program) error{func(p *program) error { return p.Kill() }, func(p *program) error { return p.Close() }} {
		p, _ := s.peer(t, b, nil, "stdin")
		told := make(chan error, 3)
		for range cap(told) {
			ctx := bounded(t)
			go func() {
				_, _, err := p.peers().Accept(ctx)
				told <- err
			}()
		}
		time.Sleep(10 * time.Millisecond) // it may find them waiting, or not
		if err := end(p); err != nil {
			t.Error(err)
		}
		for range cap(told) {
			if err := <-told; !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("a wait during the end: %v", err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := p.peers().Accept(bounded(t)); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a wait after Close: %v", err)
		}
	}
}

// door is the actor's socket as the host sees it.
func (s *suite) door(t *testing.T, r *spawn.Request, pid int) string {
	t.Helper()
	if _, bare := s.lacks[Hidden]; !bare {
		return fmt.Sprintf("/proc/%d/root%s", pid, spawn.DefaultSocket)
	}
	found, _ := filepath.Glob(r.Private + "/*.sock")
	if len(found) != 1 {
		t.Fatalf("sockets in the private directory: %q", found)
	}
	return found[0]
}

// knock connects to an actor from outside. It must be hung up on, unread.
func knock(t *testing.T, door string) (hungUp func()) {
	t.Helper()
	c, err := net.Dial("unix", door)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c, "one")
	return func() {
		t.Helper()
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(deadline))
		if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stranger got %d bytes, %v", n, err)
		}
	}
}

// Strangers on the host are hung up on, however many, and so is who is dead; the program is served all the same.
func testPeerStrangers(t *testing.T, s *suite) {
	b := s.open(t)
	does := []string{"gone", "stdin", "talk", "one"}
	if s.foreign() { // where who has no room waits, and so is not gone
		does = does[1:]
	}
	p, r := s.peer(t, b, nil, does...)
	l := p.lines()
	if !s.foreign() {
		l.want("true")
		l.want("gone")
	}
	p.refused()
	door := s.door(t, r, p.PID())
	for range 3 {
		hungUp := knock(t, door)
		p.refused()
		hungUp()
	}
	var stranger *exec.Cmd // with the program's own id, where the door is in its reach
	if _, bare := s.lacks[Hidden]; bare && r.Host != nil {
		stranger = s.stranger(t, door, r.Host.UID)
	} else if os.Geteuid() != 0 {
		stranger = s.stranger(t, door, -1)
	}
	if stranger != nil {
		ended := make(chan error, 1)
		go func() { ended <- stranger.Wait() }()
		for over := false; !over; {
			p.refused()
			select {
			case err := <-ended:
				if over = true; err != nil {
					t.Errorf("a stranger of the same id: %v", err)
				}
			default:
			}
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if c, err := dial(door); err == nil {
				c.Close()
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	p.stdin.Close()
	p.answer(p.accept(), "one")
	close(stop)
	p.wait()
	if err := p.Close(); err != nil { // with which ends the last one's wait for room
		t.Error(err)
	}
	<-stopped
}

// stranger is a process that is not the actor's, and connects.
func (s *suite) stranger(t *testing.T, door string, uid int) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Self(t), "hung-up")
	cmd.Env, cmd.Stderr = append(os.Environ(), RoleEnv+"="+peerRole, spawn.SocketEnv+"="+door), t.Output()
	if uid >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Who connects before the program has been executed is not taken for it.
func testPeerBeforeProgram(t *testing.T, s *suite) {
	b := s.open(t)
	var hungUp func()
	p, _ := s.peer(t, b, func(r *spawn.Request) {
		r.Inspect = func(pid int, _ *os.File) error {
			hungUp = knock(t, s.door(t, r, pid))
			return nil
		}
	}, "talk", "one")
	p.answer(p.accept(), "one")
	hungUp()
	p.wait()
}

// A program that floods its socket harms itself only.
func testPeerFlood(t *testing.T, s *suite) {
	b := s.open(t)
	p, _ := s.peer(t, b, nil, "flood", "stdin")
	if !s.foreign() { // there its connecting waits for room, whatever it asked for
		p.ready("true")
	}
	q, _ := s.peer(t, b, nil, "talk", "one")
	q.answer(q.accept(), "one")
	q.wait()
	for range 4 {
		p.accept().Close()
	}
	p.stdin.Close()
	if s.foreign() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}
	p.wait()
}

// Unless asked for, the socket is dead when the program runs, and the Process has no Peers.
func testPeerUnasked(t *testing.T, s *suite) {
	b := s.open(t)
	p, r := s.peer(t, b, func(r *spawn.Request) {
		r.Peer = false
		if _, bare := s.lacks[Hidden]; bare { // where else would it look
			r.Env = append(r.Env, spawn.SocketEnv+"="+r.Private+"/peer.sock")
		}
	}, "try", "stdin")
	p.ready("true")
	if _, ok := p.Process.(spawn.Peers); ok {
		t.Error("the program may connect, unasked")
	}
	if c, err := net.Dial("unix", s.door(t, r, p.PID())); err == nil {
		c.Close()
		t.Error("a stranger could connect")
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
	p.stdin.Close()
	p.wait()
}

// The socket gives the program no descriptor, and takes none of it.
func testPeerDescriptors(t *testing.T, s *suite) {
	b := s.open(t)
	p, _ := s.peer(t, b, nil, "fds")
	p.out = collect(p.stdout)
	p.stdin.Close()
	p.wait()
	for line := range strings.Lines(p.out.all(t)) { // what it opened itself, its runtime's and the listing's, is no socket
		if n, kind, _ := strings.Cut(strings.TrimSpace(line), " "); kind == "socket" || kind == "pipe" && n > "2" {
			t.Errorf("the program has descriptor %s", line)
		}
	}
}
