package ipc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// The test binary is its own peer.
func TestMain(m *testing.M) {
	hosttest.Main(m, map[string]func() error{"knock": knock, "accept": accept})
}

// knock connects, says Hello and waits until the other side hangs up.
func knock() error {
	c, err := dial(os.Args[1])
	if err != nil {
		return err
	}
	err = c.Send(context.Background(), &Hello{Proto: Proto, Actor: "a", PID: os.Getpid()})
	if err == nil {
		_, err = c.Recv(context.Background(), 0)
	}
	if !errors.Is(err, ErrPeerGone) {
		return fmt.Errorf("want to be hung up on, got %w", err)
	}
	return nil
}

// accept says who connects to descriptor 3, a listener.
func accept() error {
	l, err := NewListener(os.NewFile(3, "inherited"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	c, err := l.Accept(context.Background())
	if err != nil {
		return err
	}
	_, err = PeerCred(c)
	fmt.Println(errors.Is(err, ErrStranger))
	return nil
}

func player(t testing.TB, role string, args ...string) *exec.Cmd {
	cmd := hosttest.Command(role, args...)
	cmd.Stderr = t.Output()
	return cmd
}

// bounded is a context that turns a hang into a failure.
func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, hosttest.Patience(30)) }

// socketpair returns two connected descriptors, non-blocking as asked.
func socketpair(t testing.TB, flags int) (int, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// pair returns two ends of one connection.
func pair(t testing.TB) (*Conn, *Conn) {
	t.Helper()
	a, b := socketpair(t, unix.SOCK_NONBLOCK)
	return conn(t, a), conn(t, b)
}

func conn(t testing.TB, fd int) *Conn {
	t.Helper()
	c, err := NewConn(os.NewFile(uintptr(fd), "pair"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// listen returns a listener at a fresh path.
func listen(t testing.TB) (*Listener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ipc") // t.TempDir can be too long for a socket path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "peer.sock")
	l, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

// raw writes bytes as they are, with descriptors.
func raw(t testing.TB, c *Conn, b []byte, files ...*os.File) {
	t.Helper()
	if err := c.write(b, files); err != nil {
		t.Fatal(err)
	}
}

// openFDs counts the descriptors of this process.
func openFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func pipe(t testing.TB) (*os.File, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func line(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return s
}

// closed fails unless c has been closed by the package.
func closed(t testing.TB, c *Conn) {
	t.Helper()
	if c.raw.Control(func(uintptr) {}) == nil {
		t.Error("the connection is still open")
	}
}

// drained waits until everything sent to c has been read.
func drained(t testing.TB, c *Conn) {
	t.Helper()
	for left := 1; left > 0; runtime.Gosched() {
		var err error
		poll := c.raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		if err := errors.Join(poll, err); err != nil {
			t.Fatal(err)
		}
	}
}
