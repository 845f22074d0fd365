package microvm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/ipc"
	"sandboxd/vm/guest"
)

func files(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// conns is a connection, both ends.
func conns(t *testing.T) (ours, theirs *ipc.Conn) {
	t.Helper()
	a, b := files(t)
	ours, err := ipc.NewConn(a)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = ipc.NewConn(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// door is where the programs of a test connect.
type door chan *ipc.Conn

func (d door) Accept(context.Context) (*ipc.Conn, ipc.Cred, error) {
	c, ok := <-d
	if !ok {
		return nil, ipc.Cred{}, os.ErrProcessDone
	}
	return c, ipc.Cred{}, nil
}

func (d door) Shut() error { return nil }

// Many connections at once, and more than there are numbers one after the other:
// each has its own bytes, and an end at either side is one at the other.
func TestRelay(t *testing.T) {
	a, b := files(t)
	programs, arrived, over := make(door), make(chan *ipc.Conn, mostLines), make(chan error, 1)
	defer close(programs)
	go accept(programs, &guest.Conn{RW: a})
	go func() {
		over <- forward(&guest.Conn{RW: b}, func() (*ipc.Conn, error) {
			ours, theirs := conns(t)
			arrived <- theirs
			return ours, nil
		})
	}()
	dial := func() (program, supervisor *ipc.Conn) {
		ours, theirs := conns(t)
		select {
		case programs <- ours:
		case <-time.After(hosttest.Patience(60)):
			t.Fatal("no number is free")
		}
		return theirs, <-arrived
	}
	for round := range 3 {
		var group sync.WaitGroup
		for i := range mostLines {
			p, s := dial()
			group.Go(func() {
				long := bytes.Repeat([]byte{byte(i), byte(round)}, guest.MaxBody)
				go func() { _, _ = p.Write(long); _ = p.Hangup() }()
				if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, long) {
					t.Errorf("%d/%d: %d bytes of %d, or others, %v", round, i, len(got), len(long), err)
				}
				s.Close()
			})
		}
		group.Wait()
	}
	p, s := dial() // the supervisor speaks, and hangs up
	if _, err := s.Write([]byte("word")); err != nil {
		t.Error(err)
	}
	_ = s.Hangup()
	if got, err := io.ReadAll(p); err != nil || string(got) != "word" {
		t.Errorf("%q, %v", got, err)
	}
	p, _ = dial()
	a.Close() // the port is gone, and all with it
	b.Close()
	if got, err := io.ReadAll(p); err != nil || len(got) > 0 {
		t.Errorf("after the port: %q, %v", got, err)
	}
	if err := <-over; err == nil {
		t.Error("forward ends without a reason")
	}
}

// Where nobody answers, the program's connection ends, and its number is free again.
func TestRelayNobody(t *testing.T) {
	a, b := files(t)
	programs := make(door)
	defer close(programs)
	go accept(programs, &guest.Conn{RW: a})
	go func() {
		_ = forward(&guest.Conn{RW: b}, func() (*ipc.Conn, error) { return nil, errors.New("nobody") })
	}()
	for range 2 * mostLines {
		ours, theirs := conns(t)
		programs <- ours
		if got, err := io.ReadAll(theirs); err != nil || len(got) > 0 {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// A guest that breaks the rules loses its connections, and nothing else.
func TestRelayHostile(t *testing.T) {
	for name, c := range map[string]struct {
		frames func(*guest.Conn) error
		why    string
	}{
		"no number":    {func(g *guest.Conn) error { return g.Send(frameConnect, nil) }, "of no connection"},
		"a big number": {func(g *guest.Conn) error { return g.Send(frameData, []byte{mostLines, 1}) }, "of no connection"},
		"a second one": {func(g *guest.Conn) error { return g.Send(frameConnect, []byte{3}) }, "a second connection 3"},
		"another kind": {func(g *guest.Conn) error { return g.Send(frameExited, []byte{0}) }, "on the port of connections"},
	} {
		a, b := files(t)
		peers := make(chan *ipc.Conn, 2)
		g := &guest.Conn{RW: a}
		go func() {
			_ = g.Send(frameConnect, []byte{3})
			// What was never connected, or has ended, is passed over.
			_ = g.Send(frameData, []byte{5, 1})
			_ = g.Send(frameData, []byte{5})
			_ = c.frames(g)
		}()
		err := forward(&guest.Conn{RW: b}, func() (*ipc.Conn, error) {
			ours, theirs := conns(t)
			peers <- theirs
			return ours, nil
		})
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
		if got, err := io.ReadAll(<-peers); err != nil || len(got) > 0 {
			t.Errorf("%s: an earlier connection goes on: %q, %v", name, got, err)
		}
	}
}
