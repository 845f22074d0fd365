package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// body is a message of any bytes, well-formed or not.
type body []byte

func (b body) AppendBinary(dst []byte) ([]byte, error) { return append(dst, b...), nil }

func framed(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func TestFrameRoundTrip(t *testing.T) {
	ctx := bounded(t)
	a, b := pair(t)
	for _, size := range []int{1, 3, HandshakeCap - 1, HandshakeCap, HandshakeCap + 1, 100_000, DefaultCap} {
		b.cap.Store(DefaultCap)
		want := bytes.Repeat([]byte{byte(size)}, size)
		sent := make(chan error, 1)
		go func() { sent <- a.Send(ctx, body(want)) }()
		f, err := b.Recv(ctx, 0)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if err := <-sent; err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(f.Body, want) || f.File != nil {
			t.Errorf("%d bytes came back as %d", size, len(f.Body))
		}
	}
}

func TestFrameBytesMayArriveSingly(t *testing.T) {
	ctx := bounded(t)
	a, b := pair(t)
	go func() {
		for _, c := range framed([]byte("\x91\x06")) {
			if err := a.write([]byte{c}, nil); err != nil {
				return
			}
			runtime.Gosched()
		}
	}()
	if f, err := b.Recv(ctx, 0); err != nil || !bytes.Equal(f.Body, []byte("\x91\x06")) {
		t.Errorf("%x, %v", f.Body, err)
	}
}

func TestRecvRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing, closed", nil, io.EOF},
		{"nothing, closed: the peer is gone", nil, ErrPeerGone},
		{"half a length", []byte{1, 0}, io.ErrUnexpectedEOF},
		{"half a body", []byte{4, 0, 0, 0, 1, 2}, io.ErrUnexpectedEOF},
		{"half a body: the peer is gone", []byte{4, 0, 0, 0, 1, 2}, ErrPeerGone},
		{"no body", []byte{0, 0, 0, 0}, ErrMalformed},
		{"one byte over the cap", []byte{1, 0x10, 0, 0}, ErrFrameTooLarge},
		{"4 GiB", []byte{0xff, 0xff, 0xff, 0xff}, ErrFrameTooLarge},
		{"2 GiB, negative where int is 32 bits", []byte{0, 0, 0, 0x80}, ErrFrameTooLarge},
	} {
		a, b := pair(t)
		raw(t, a, c.in)
		a.Close()
		if _, err := b.Recv(bounded(t), 0); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		closed(t, b)
	}
}

// TestCapIsCheckedBeforeTheBody pins that a refusal needs no body to arrive.
func TestCapIsCheckedBeforeTheBody(t *testing.T) {
	a, b := pair(t)
	raw(t, a, []byte{0, 0, 0x10, 0}) // 1 MiB, and the sender stays
	if _, err := b.Recv(bounded(t), 0); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("%v", err)
	}
}

// TestMemoryFollowsBytes pins that declared bytes cost nothing until they come.
func TestMemoryFollowsBytes(t *testing.T) {
	const conns = 64
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := make(chan error, conns)
	ctx, cancel := context.WithCancel(bounded(t))
	var readers []*Conn
	for range conns {
		a, b := pair(t)
		readers = append(readers, b)
		b.cap.Store(DefaultCap)
		raw(t, a, []byte{0, 0, 0x10, 0, 1, 2, 3})
		go func() { _, err := b.Recv(ctx, 0); done <- err }()
	}
	for _, b := range readers {
		drained(t, b)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / conns; got > 32<<10 {
		t.Errorf("%d bytes allocated for each idle connection that declared 1 MiB", got)
	}
	cancel()
	for range conns {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

func TestDescriptors(t *testing.T) {
	r, _ := pipe(t)
	whole := framed([]byte("\x91\x06"))
	many := func(n int) []*os.File {
		f := make([]*os.File, n)
		for i := range f {
			f[i] = r
		}
		return f
	}
	for _, c := range []struct {
		name  string
		send  func(a *Conn)
		allow int
		want  error
	}{
		{"one allowed", func(a *Conn) { raw(t, a, whole, r) }, 1, nil},
		{"one with the body", func(a *Conn) { raw(t, a, whole[:4]); raw(t, a, whole[4:], r) }, 1, nil},
		{"one, none allowed", func(a *Conn) { raw(t, a, whole, r) }, 0, ErrDescriptors},
		{"one with the body, none allowed", func(a *Conn) { raw(t, a, whole[:4]); raw(t, a, whole[4:], r) }, 0, ErrDescriptors},
		{"two, one allowed", func(a *Conn) { raw(t, a, whole, r, r) }, 1, ErrDescriptors},
		{"one and one more", func(a *Conn) { raw(t, a, whole[:4], r); raw(t, a, whole[4:], r) }, 1, ErrDescriptors},
		{"more than the kernel may install", func(a *Conn) { raw(t, a, whole, many(100)...) }, 1, ErrDescriptors},
		{"the most that can be sent", func(a *Conn) { raw(t, a, whole, many(253)...) }, 0, ErrDescriptors},
		{"one, then the frame never ends", func(a *Conn) { raw(t, a, whole[:5], r); a.Close() }, 1, io.ErrUnexpectedEOF},
		{"one on a frame too large", func(a *Conn) { raw(t, a, []byte{0xff, 0xff, 0xff, 0xff}, r) }, 1, ErrFrameTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			before := openFDs(t)
			c.send(a)
			f, err := b.Recv(bounded(t), c.allow)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil {
				closed(t, b)
				a.Close()
				before -= 2 // both ends
				b.Close()
			} else {
				checkPipe(t, f.File, r)
				f.Close()
			}
			if after := openFDs(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

// checkPipe fails unless got is a close-on-exec duplicate of want.
func checkPipe(t *testing.T, got, want *os.File) {
	t.Helper()
	if got == nil {
		t.Fatal("no descriptor came")
	}
	x, err := got.Stat()
	if err != nil {
		t.Fatal(err)
	}
	y, err := want.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(x, y) {
		t.Error("another file came")
	}
	if flags, err := unix.FcntlInt(got.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("not close-on-exec: %#x, %v", flags, err)
	}
}

// TestDescriptorStaysWithItsFrame sends two frames in a row, the second with a
// descriptor: reading the first must not swallow it.
func TestDescriptorStaysWithItsFrame(t *testing.T) {
	ctx := bounded(t)
	r, _ := pipe(t)
	a, b := pair(t)
	if err := a.Send(ctx, &Confined{PID: 2}); err != nil {
		t.Fatal(err)
	}
	if err := a.Send(ctx, &Ready{PID: 2}, r); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} {
		f, err := b.Recv(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if (f.File != nil) != want {
			t.Errorf("frame %d: descriptor %v", i, f.File)
		}
		f.Close()
	}
}

// TestDescriptorTravelsOnce sends a frame that takes several writes.
func TestDescriptorTravelsOnce(t *testing.T) {
	r, _ := pipe(t)
	a, b := pair(t)
	b.cap.Store(DefaultCap)
	done := make(chan error, 1)
	go func() { done <- a.Send(bounded(t), body(make([]byte, DefaultCap)), r) }()
	f, err := b.Recv(bounded(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	checkPipe(t, f.File, r)
	f.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestUntilWaits pins that no interrupt is under way after stop: it would hit
// the next wait.
func TestUntilWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	begun, over := make(chan struct{}), false
	stop := until(ctx, func() {
		close(begun)
		for range 1000 {
			runtime.Gosched()
		}
		over = true
	})
	cancel()
	<-begun
	if err := stop(); !errors.Is(err, context.Canceled) || !over {
		t.Errorf("%v, interrupt over: %v", err, over)
	}
}

func TestSendToNobody(t *testing.T) {
	a, b := pair(t)
	b.Close()
	if err := a.Send(bounded(t), &Proceed{}); !errors.Is(err, ErrPeerGone) {
		t.Errorf("%v", err)
	}
}

// TestUnblocks ends waits in each way there is. A wait that is not ended hangs
// until the test's own deadline, which is another error than the one wanted.
func TestUnblocks(t *testing.T) {
	cause := errors.New("the caller changed its mind")
	for _, how := range []struct {
		name string
		end  func(c *Conn, cancel context.CancelCauseFunc)
		want []error
	}{
		{"close", func(c *Conn, _ context.CancelCauseFunc) { c.Close() }, []error{os.ErrClosed}},
		{"cancel", func(_ *Conn, cancel context.CancelCauseFunc) { cancel(cause) }, []error{context.Canceled, cause}},
	} {
		for name, wait := range map[string]func(context.Context, *Conn) error{
			"recv":  func(ctx context.Context, c *Conn) error { _, err := c.Recv(ctx, 0); return err },
			"send":  func(ctx context.Context, c *Conn) error { return c.Send(ctx, body(make([]byte, 8<<20))) },
			"ready": func(ctx context.Context, c *Conn) error { _, _, err := AwaitReady(ctx, c, nil); return err },
		} {
			_, b := pair(t)
			ctx, cancel := context.WithCancelCause(bounded(t))
			done := make(chan error, 1)
			go func() { done <- wait(ctx, b) }()
			runtime.Gosched()
			how.end(b, cancel)
			err := <-done
			for _, want := range how.want {
				if !errors.Is(err, want) {
					t.Errorf("%s of %s: %v, want %v", how.name, name, err, want)
				}
			}
			closed(t, b)
			cancel(nil)
		}
	}
}

func TestCloseTwice(t *testing.T) {
	a, _ := pair(t)
	l, _ := listen(t)
	for range 2 {
		if err := errors.Join(a.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestBlockingFileIsAdopted gives a descriptor that the poller does not know.
func TestBlockingFileIsAdopted(t *testing.T) {
	x, y := socketpair(t, 0)
	before := openFDs(t)
	a, b := conn(t, x), conn(t, y)
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	ctx, cancel := context.WithCancel(bounded(t))
	done := make(chan error, 1)
	go func() { _, err := b.Recv(ctx, 0); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	a.Close()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := NewConn(f); err == nil {
		t.Errorf("a device became %v", c)
	}
	if c, err := NewConn(nil); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("no file became %v, %v", c, err)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	x, y := pair(b)
	ctx := b.Context()
	go func() {
		for {
			if _, err := y.Recv(ctx, 0); err != nil {
				return
			}
			if y.Send(ctx, &Proceed{}) != nil {
				return
			}
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Send(ctx, &Ready{PID: 1}); err != nil {
			b.Fatal(err)
		}
		if _, err := x.Recv(ctx, 0); err != nil {
			b.Fatal(err)
		}
	}
}
