package ipc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// Descriptors that a peer sends along are never installed: read(2) drops them.
func TestReadDropsDescriptors(t *testing.T) {
	a, b := pair(t)
	r, w := pipe(t)
	if _, err := b.Write([]byte("warm")); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(make([]byte, 9)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	before := openFDs(t)
	for range 100 {
		raw(t, b, []byte("xy"), r, w)
		got := make([]byte, 2)
		if n, err := io.ReadFull(a, got); n != 2 || err != nil || string(got) != "xy" {
			t.Fatal(n, err, got)
		}
	}
	if now := openFDs(t); now > before {
		t.Errorf("%d descriptors, were %d", now, before)
	}
	w.Close()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("somebody holds a descriptor that was sent: %d, %v", n, err)
	}
}

func TestStreamEnds(t *testing.T) {
	a, b := pair(t)
	if _, err := b.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if got, err := io.ReadAll(a); string(got) != "last" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, ErrPeerGone) {
		t.Errorf("write to nobody: %d, %v", n, err)
	}
	if n, err := a.TryWrite([]byte("x")); n != 0 || !errors.Is(err, ErrPeerGone) {
		t.Errorf("try to write to nobody: %d, %v", n, err)
	}

	a, b = pair(t)
	if _, err := a.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	b.Close() // what lies there unread resets the connection
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, ErrPeerGone) && !errors.Is(err, io.EOF) {
		t.Errorf("read from who has not read: %v", err)
	}
	a.Close()
	for _, call := range []func([]byte) (int, error){a.Read, a.Write, a.TryWrite} {
		if n, err := call([]byte("x")); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %d, %v", n, err)
		}
	}
}

// Write sends all of it however little room there is, TryWrite only what there is room for.
func TestWrites(t *testing.T) {
	a, b := pair(t)
	all := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sent := 0
	for {
		n, err := a.TryWrite(all[sent:])
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; n == 0 {
			break
		}
	}
	if sent == 0 || sent == len(all) {
		t.Fatalf("%d of %d bytes went without waiting", sent, len(all))
	}
	var group sync.WaitGroup
	group.Go(func() {
		if n, err := a.Write(all[sent:]); n != len(all)-sent || err != nil {
			t.Errorf("wrote %d of %d, %v", n, len(all)-sent, err)
		}
	})
	time.Sleep(10 * time.Millisecond) // the Write waits, most likely
	if n, err := a.TryWrite([]byte("x")); n != 0 || err != nil {
		t.Errorf("beside a Write that waits: %d, %v", n, err)
	}
	got := make([]byte, len(all))
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, all) {
		t.Errorf("read other bytes, %v", err)
	}
	group.Wait()
}

// Close ends a Read and a Write that wait, and harms nobody who is just about to.
func TestStreamCloseUnblocks(t *testing.T) {
	for range 50 {
		a, _ := pair(t)
		for n := 1; n > 0; {
			n, _ = a.TryWrite(make([]byte, 1<<16))
		}
		var group sync.WaitGroup
		for _, call := range []func([]byte) (int, error){a.Read, a.Write} {
			group.Go(func() {
				if _, err := call(make([]byte, 1<<20)); !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
			})
		}
		group.Go(func() {
			for {
				if n, err := a.TryWrite([]byte("x")); errors.Is(err, os.ErrClosed) {
					return
				} else if n != 0 || err != nil {
					t.Error(n, err)
				}
			}
		})
		a.Close()
		group.Wait()
	}
}

func TestPeerPidfd(t *testing.T) {
	l, path := listen(t)
	b, err := dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := l.Accept(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	hosttest.NeedKernel(t, 6, 5, "SO_PEERPIDFD")
	fd, err := PeerPidfd(a)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil {
		t.Error(err)
	}
	// Of one that is dead there is none, or one that says so.
	cmd := player(t, "knock", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	fd, err = PeerPidfd(c)
	if err != nil {
		if !errors.Is(err, ErrPeerGone) {
			t.Error(err)
		}
		return
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != unix.ESRCH {
		t.Errorf("a signal to the dead: %v", err)
	}
}
