package ipc

import (
	"bufio"
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

func TestAcceptUnblocks(t *testing.T) {
	l, path := listen(t)
	for range 3 { // a cancelled Accept must leave no deadline behind
		ctx, cancel := context.WithCancel(bounded(t))
		done := make(chan error, 1)
		go func() { _, err := l.Accept(ctx); done <- err }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
	}
	if _, err := dial(path); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(bounded(t)); err != nil {
		t.Fatalf("after a cancelled wait: %v", err)
	}
	done := make(chan error, 1)
	go func() { _, err := l.Accept(bounded(t)); done <- err }()
	l.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := l.Accept(bounded(t)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

// TestCancelledAcceptLosesNothing has the connection and the end of the context
// race; whichever wins, the connection is given to somebody, and no descriptor
// is left over.
func TestCancelledAcceptLosesNothing(t *testing.T) {
	before := openFDs(t)
	for range 100 {
		l, path := listen(t)
		ctx, cancel := context.WithCancel(bounded(t))
		go cancel()
		c, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Accept(ctx)
		if errors.Is(err, context.Canceled) {
			got, err = l.Accept(bounded(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		got.Close()
		c.Close()
		l.Close()
		cancel()
	}
	if after := openFDs(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestAcceptedConn(t *testing.T) {
	l, path := listen(t)
	peer, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := l.Accept(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.cap.Load(); got != HandshakeCap {
		t.Errorf("cap is %d", got)
	}
	if err := c.raw.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("not close-on-exec: %#x, %v", flags, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	cred, err := PeerCred(c)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Cred{os.Getpid(), uint32(os.Getuid()), uint32(os.Getgid())}); cred != want {
		t.Errorf("peer is %+v, want %+v", cred, want)
	}
}

func TestNewListenerRefuses(t *testing.T) {
	x, y := socketpair(t, 0)
	dgram, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	inet, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	before := openFDs(t)
	for name, f := range map[string]*os.File{
		"connected": os.NewFile(uintptr(x), ""), "unconnected": os.NewFile(uintptr(y), ""),
		"datagram": os.NewFile(uintptr(dgram), ""), "internet": os.NewFile(uintptr(inet), ""), "device": null,
	} {
		if _, err := NewListener(f); err == nil {
			t.Errorf("%s socket accepted as listener", name)
		}
	}
	if after := openFDs(t); after != before-5 {
		t.Errorf("refused listeners stay open: %d descriptors, then %d", before, after)
	}
}

// TestPeerOutsideOurPidNamespace listens in a pid namespace below ours, where
// we, who dial, have no number.
func TestPeerOutsideOurPidNamespace(t *testing.T) {
	l, path := listen(t)
	cmd := player(t, "accept")
	cmd.ExtraFiles = []*os.File{l.f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		hosttest.Lack(t, "a pid namespace: %v", err)
	}
	defer cmd.Wait()
	r := bufio.NewReader(out)
	if got := line(t, r); got != "ready\n" {
		t.Fatalf("listener says %q", got)
	}
	c, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := line(t, r); got != "true\n" {
		t.Errorf("pid 0 was not refused: %q", got)
	}
}
