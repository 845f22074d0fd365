package ipc

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

var nonce = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func expect() Expect {
	return Expect{Actor: "worker-7", Epoch: 3, Nonce: nonce, PID: os.Getpid()}
}

func hello() Hello {
	return Hello{Proto: Proto, Actor: "worker-7", Epoch: 3, Nonce: nonce, PID: 1}
}

// TestLadder climbs the whole of it, with a plan of every size that matters.
func TestLadder(t *testing.T) {
	for _, size := range []int{0, 1, HandshakeCap, MaxPlan} {
		for _, confine := range []bool{false, true} {
			t.Run(fmt.Sprintf("plan %d, confined %v", size, confine), func(t *testing.T) { climb(t, size, confine) })
		}
	}
}

func climb(t *testing.T, size int, confine bool) {
	ctx := bounded(t)
	l, path := listen(t)
	listener, _ := pipe(t)
	terminal, _ := pipe(t)
	plan := bytes.Repeat([]byte{7}, size)
	peer := make(chan error, 1)
	go func() {
		peer <- func() error {
			c, err := dial(path)
			if err != nil {
				return err
			}
			defer c.Close()
			w, err := sayHello(ctx, c, hello())
			if err != nil {
				return err
			}
			if w.Epoch != 3 || !bytes.Equal(w.Plan, plan) {
				return fmt.Errorf("Welcome of epoch %d with %d bytes", w.Epoch, len(w.Plan))
			}
			if confine {
				if err := sayConfined(ctx, c, Confined{PID: 2}, listener); err != nil {
					return err
				}
			}
			if err := c.Send(ctx, &Ready{PID: 2}, terminal); err != nil {
				return err
			}
			return c.Send(ctx, &Exit{Status: 0x300})
		}()
	}()

	c, h, err := AcceptHello(ctx, l, expect())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if h != hello() {
		t.Errorf("%+v", h)
	}
	if err := c.PassCred(); err != nil {
		t.Fatal(err)
	}
	if err := SendWelcome(ctx, c, Welcome{Epoch: 3, Plan: plan}); err != nil {
		t.Fatal(err)
	}
	calls := 0
	ready, master, err := AwaitReady(ctx, c, func(sender Cred, f *os.File) error {
		calls++
		defer f.Close()
		if sender.PID != os.Getpid() { // not the 2 of the message
			t.Errorf("%+v", sender)
		}
		checkPipe(t, f, listener)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	checkPipe(t, master, terminal)
	if ready.PID != 2 || (calls == 1) != confine {
		t.Errorf("%+v after %d calls", ready, calls)
	}
	f, err := c.Recv(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var exit Exit
	if err := exit.UnmarshalBinary(f.Body); err != nil || exit.Status.ExitStatus() != 3 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := <-peer; err != nil {
		t.Errorf("peer: %v", err)
	}
	if _, err := c.Recv(ctx, 0); !errors.Is(err, ErrPeerGone) {
		t.Errorf("after the end: %v", err)
	}
}

func TestWrongHello(t *testing.T) {
	for field, change := range map[string]func(*Hello){
		"proto": func(h *Hello) { h.Proto++ },
		"actor": func(h *Hello) { h.Actor += "\n" },
		"epoch": func(h *Hello) { h.Epoch-- },
		"nonce": func(h *Hello) { h.Nonce[15] ^= 1 },
	} {
		l, path := listen(t)
		c, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		h := hello()
		change(&h)
		if err := c.Send(bounded(t), &h); err != nil {
			t.Fatal(err)
		}
		_, _, err = AcceptHello(bounded(t), l, expect())
		var he *HandshakeError
		if !errors.As(err, &he) || he.Field != field || !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", field, err)
		} else if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("%s: the error carries the peer's control characters: %q", field, err)
		}
		if _, err := c.Recv(bounded(t), 0); !errors.Is(err, ErrPeerGone) {
			t.Errorf("%s: not hung up on: %v", field, err)
		}
	}
}

// TestHelloIsBounded sends, as the right process, what is no Hello.
func TestHelloIsBounded(t *testing.T) {
	r, _ := pipe(t)
	for name, c := range map[string]struct {
		in    []byte
		files []*os.File
		want  error
	}{
		"another message":  {framed([]byte("\x92\x03\xce\x00\x00\x00\x02")), nil, ErrUnexpected},
		"a frame too big":  {framed(make([]byte, HandshakeCap+1)), nil, ErrFrameTooLarge},
		"no msgpack":       {framed([]byte("hello")), nil, ErrMalformed},
		"a descriptor too": {framed(encode(t, new(hello()))), []*os.File{r}, ErrDescriptors},
		"nothing":          {nil, nil, ErrPeerGone},
	} {
		l, path := listen(t)
		p, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.in != nil {
			raw(t, p, c.in, c.files...)
		}
		p.Close()
		if _, _, err = AcceptHello(bounded(t), l, expect()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestStrangers has other processes knock before the right one does.
func TestStrangers(t *testing.T) {
	for _, n := range []int{1, MaxStrangers, MaxStrangers + 1} {
		l, path := listen(t)
		done := make(chan error, 1)
		go func() { // one after another: the backlog is not what is tested
			for range n {
				cmd := player(t, "knock", path)
				if err := cmd.Run(); err != nil {
					done <- fmt.Errorf("stranger: %w", err)
					return
				}
			}
			c, err := dial(path)
			if err == nil {
				err = c.Send(context.Background(), new(hello()))
				t.Cleanup(func() { c.Close() })
			}
			done <- err
		}()
		c, _, err := AcceptHello(bounded(t), l, expect())
		if n <= MaxStrangers {
			if err != nil {
				t.Errorf("%d strangers: %v", n, err)
			} else {
				c.Close()
			}
		} else if !errors.Is(err, ErrTooManyStrangers) {
			t.Errorf("%d strangers: %v", n, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAwaitReadyErrors(t *testing.T) {
	r, _ := pipe(t)
	mine := errors.New("mine")
	took := func(_ Cred, f *os.File) error { f.Close(); return nil }
	refuse := func(_ Cred, f *os.File) error { f.Close(); return mine }
	for _, c := range []struct {
		name     string
		send     func(*Conn)
		confined func(Cred, *os.File) error
		want     error
	}{
		{"failed", func(a *Conn) { raw(t, a, framed(encode(t, &Failed{7, 12, uint16(syscall.ENOENT)}))) }, nil, syscall.ENOENT},
		{"failed with a descriptor", func(a *Conn) { raw(t, a, framed(encode(t, &Failed{7, 12, 2})), r) }, nil, ErrDescriptors},
		{"exit first", func(a *Conn) { raw(t, a, framed(encode(t, &Exit{}))) }, nil, ErrUnexpected},
		{"hello again", func(a *Conn) { raw(t, a, framed(encode(t, new(hello()))), r) }, nil, ErrUnexpected},
		{"unknown type", func(a *Conn) { raw(t, a, framed([]byte("\x91\x63"))) }, nil, ErrUnexpected},
		{"ready of another shape", func(a *Conn) { raw(t, a, framed([]byte("\x92\x03\x02")), r) }, nil, ErrMalformed},
		{"confined, not awaited", func(a *Conn) { raw(t, a, framed(encode(t, &Confined{2})), r) }, nil, ErrUnexpected},
		{"confined, refused", func(a *Conn) { raw(t, a, framed(encode(t, &Confined{2})), r) }, refuse, mine},
		{"confined of another shape", func(a *Conn) { raw(t, a, framed([]byte("\x92\x05\x02")), r) }, took, ErrMalformed},
		{"confined twice", func(a *Conn) {
			raw(t, a, framed(encode(t, &Confined{2})), r)
			raw(t, a, framed(encode(t, &Confined{2})), r)
		}, took, ErrUnexpected},
		{"gone", func(a *Conn) { a.Close() }, nil, ErrPeerGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			before := openFDs(t)
			c.send(a)
			_, _, err := AwaitReady(bounded(t), b, c.confined)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			closed(t, b)
			a.Close()
			if after := openFDs(t); after != before-2 {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
	a, b := pair(t)
	raw(t, a, framed(encode(t, &Failed{7, 12, 2})))
	_, _, err := AwaitReady(bounded(t), b, nil)
	var step *StepError
	if !errors.As(err, &step) || *step != (StepError{7, 12, 2}) {
		t.Errorf("%v", err)
	}
}

// TestReadyOutlivesItsPeer pins that Ready counts although the peer has died.
func TestReadyOutlivesItsPeer(t *testing.T) {
	a, b := pair(t)
	raw(t, a, framed(encode(t, &Ready{2})))
	a.Close()
	if ready, _, err := AwaitReady(bounded(t), b, nil); err != nil || ready.PID != 2 {
		t.Errorf("%+v, %v", ready, err)
	}
	// A program that is killed while it waits for Proceed, which then nobody can be told.
	for _, last := range []encoding.BinaryAppender{&Ready{2}, &Failed{7, 12, uint16(syscall.ENOENT)}, nil} {
		a, b := pair(t)
		raw(t, a, framed(encode(t, &Confined{2})))
		if last != nil {
			raw(t, a, framed(encode(t, last)))
		}
		a.Close()
		ready, _, err := AwaitReady(bounded(t), b, func(Cred, *os.File) error { return nil })
		switch last.(type) {
		case *Ready:
			if err != nil || ready.PID != 2 {
				t.Errorf("%+v, %v", ready, err)
			}
		case *Failed:
			if !errors.Is(err, syscall.ENOENT) {
				t.Errorf("%v, want what it said failed", err)
			}
		default:
			if !errors.Is(err, ErrPeerGone) {
				t.Errorf("%v, want ErrPeerGone", err)
			}
		}
	}
}

// TestAbort ends each wait of the ladder from outside, many times, at whatever
// moment the scheduler picks.
func TestAbort(t *testing.T) {
	l, path := listen(t)
	for range 200 {
		ctx, cancel := context.WithCancel(bounded(t))
		var wg sync.WaitGroup
		wg.Go(func() {
			if c, err := dial(path); err == nil {
				sayHello(ctx, c, hello()) // whatever comes of it
				c.Close()
			}
		})
		wg.Go(cancel)
		c, _, err := AcceptHello(ctx, l, expect())
		if err == nil {
			if err = SendWelcome(ctx, c, Welcome{Epoch: 3}); err == nil {
				_, _, err = AwaitReady(ctx, c, nil)
			}
			c.Close()
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, ErrPeerGone) && !errors.Is(err, os.ErrClosed) {
			t.Fatalf("%v", err)
		}
		wg.Wait()
	}
}

// TestSender pins that credentials are those of the process that spoke, and
// that they leave room for a descriptor.
func TestSender(t *testing.T) {
	ctx := bounded(t)
	a, b := pair(t)
	r, _ := pipe(t)
	for i, want := range []int{0, os.Getpid()} {
		if err := a.Send(ctx, &Proceed{}, r); err != nil {
			t.Fatal(err)
		}
		f, err := b.Recv(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		checkPipe(t, f.File, r)
		f.Close()
		if f.Sender.PID != want {
			t.Errorf("frame %d: sender %+v, want pid %d", i, f.Sender, want)
		}
		if err := b.PassCred(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Send(ctx, &Proceed{}, r, r, r, r, r); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Recv(ctx, 1); !errors.Is(err, ErrDescriptors) {
		t.Errorf("five descriptors beside the credentials: %v", err)
	}
}
