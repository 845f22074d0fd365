package microvm

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// Many connections at once, and more than there are numbers one after the other:
// each has its own bytes, and an end at either side is one at the other.
func TestRelay(t *testing.T) {
	a, b := files(t)
	near, far := &relay{port: &guest.Conn{RW: a}}, &relay{port: &guest.Conn{RW: b}}
	arrived := make(chan *ipc.Conn, mostLines)
	over := make(chan error, 2)
	go func() { over <- near.receive(func(byte) error { return io.ErrUnexpectedEOF }) }()
	go func() {
		over <- far.receive(func(number byte) error {
			ours, theirs := conns(t)
			l, ok := far.add(number, ours, func() {})
			if !ok {
				return fmt.Errorf("%d is in use", number)
			}
			arrived <- theirs
			go far.send(number, l)
			return nil
		})
	}()
	free := make(chan byte, mostLines)
	for n := range byte(mostLines) {
		free <- n
	}
	dial := func() (program, supervisor *ipc.Conn) {
		ours, theirs := conns(t)
		number := <-free
		l, _ := near.add(number, ours, func() { free <- number })
		if err := near.port.Send(frameConnect, []byte{number}); err != nil {
			t.Error(err)
		}
		go near.send(number, l)
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
	for range 2 {
		if err := <-over; err == nil {
			t.Error("a relay ends without a reason")
		}
	}
	for range mostLines {
		select {
		case <-free:
		case <-time.After(deadlineOfRelay):
			t.Fatal("a number is never free again")
		}
	}
}

const deadlineOfRelay = time.Minute

// A guest that breaks the rules loses its connections, and nothing else.
func TestRelayHostile(t *testing.T) {
	for name, c := range map[string]struct {
		frames func(*guest.Conn) error
		why    string
	}{
		"no number":    {func(g *guest.Conn) error { return g.Send(frameConnect, nil) }, "of no connection"},
		"a big number": {func(g *guest.Conn) error { return g.Send(frameData, []byte{mostLines, 1}) }, "of no connection"},
		"a second one": {func(g *guest.Conn) error { _ = g.Send(frameConnect, []byte{3}); return g.Send(frameConnect, []byte{3}) }, "3 is in use"},
		"another kind": {func(g *guest.Conn) error { return g.Send(frameExited, []byte{0}) }, "on the port of connections"},
	} {
		a, b := files(t)
		g, r := &guest.Conn{RW: a}, &relay{port: &guest.Conn{RW: b}}
		first, peer := conns(t)
		l, _ := r.add(0, first, func() {})
		go r.send(0, l)
		go func() {
			// What was never connected, or has ended, is passed over.
			_ = g.Send(frameData, []byte{5, 1})
			_ = g.Send(frameData, []byte{5})
			_ = c.frames(g)
		}()
		err := r.receive(func(number byte) error {
			ours, _ := conns(t)
			if l, ok := r.add(number, ours, func() {}); ok {
				go r.send(number, l)
				return nil
			}
			return fmt.Errorf("%d is in use", number)
		})
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
		if got, err := io.ReadAll(peer); err != nil || len(got) > 0 {
			t.Errorf("%s: an earlier connection goes on: %q, %v", name, got, err)
		}
	}
}
