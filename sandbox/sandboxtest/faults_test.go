package sandboxtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sandboxd/ipc/session"
)

// errData is what items that come twice, or in another order, are seen as: there is no number on them.
var errData = errors.New("not what was sent")

var errApp = errors.New("an error of the program's own")

// talk is a conversation in which every kind of message is said, over two ends
// of a connection; it returns what each side made of it.
func talk(ctx context.Context, grace time.Duration, a, b io.ReadWriteCloser) (host, program error) {
	var all sync.WaitGroup
	all.Go(func() { host = hostSide(ctx, grace, a) })
	all.Go(func() { program = programSide(ctx, b) })
	all.Wait()
	return host, program
}

func hostSide(ctx context.Context, grace time.Duration, rw io.ReadWriteCloser) error {
	arrival, err := session.Receive(ctx, rw)
	if err != nil {
		return err
	}
	var mux session.Mux
	session.Handle(&mux, "add", func(_ context.Context, n int) (int, error) { return n + 1, nil })
	s, err := arrival.Welcome(ctx, session.Welcome{Self: session.Ref{ID: "1", Name: "p"}, Epoch: 1}, session.Options{Self: session.Ref{ID: "0"}, Mux: &mux, Window: 256, Grace: grace})
	if err != nil {
		return err
	}
	defer s.Close()
	err = hostSteps(ctx, s)
	if err == nil || errors.Is(err, session.ErrLost) {
		select {
		case <-s.Done():
			err = errors.Join(err, s.Err())
		case <-ctx.Done():
			err = errors.Join(err, ctx.Err())
		}
	}
	return err
}

func hostSteps(ctx context.Context, s *session.Session) error {
	if n, err := session.Call[int, int](ctx, s, "ask", 1); err != nil || n != 3 {
		return fmt.Errorf("ask: %d, %w", n, err)
	}
	if _, err := session.Call[int, int](ctx, s, "fail", 1); err == nil || !strings.Contains(err.Error(), errApp.Error()) {
		return fmt.Errorf("fail: %w", err)
	}
	d, err := session.OpenStream[int, int](ctx, s, "echo", 5)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := d.Started(ctx, nil); err != nil {
		return fmt.Errorf("started: %w", err)
	}
	for i := range 6 { // more than a window: so that credit flows
		if err := d.Send(ctx, i); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if v, err := d.Recv(ctx); err != nil || v != i {
			return fmt.Errorf("recv: %d, %w", v, cmp.Or(err, errData))
		}
	}
	if err := d.CloseSend(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := d.Result(ctx, nil); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	short, stop := context.WithCancel(ctx)
	time.AfterFunc(5*time.Millisecond, stop)
	if _, err := session.Call[int, int](short, s, "hang", 1); !errors.Is(err, context.Canceled) || errors.Is(err, session.ErrTooSlow) {
		return fmt.Errorf("hang: %w", err)
	}
	if err := s.Ping(ctx); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	return s.CancelPeer(ctx, &session.Cancelled{Reason: "over"}, time.Second)
}

func programSide(ctx context.Context, rw io.ReadWriteCloser) error {
	var mux session.Mux
	mux.Add("ask", session.Unary, func(ctx context.Context, c *session.Inbound) ([]byte, error) {
		n, err := session.Call[int, int](ctx, c.Session(), "add", 1)
		return []byte{byte(n + 1)}, err
	})
	session.Handle(&mux, "fail", func(context.Context, int) (int, error) { return 0, errApp })
	session.Handle(&mux, "hang", func(ctx context.Context, _ int) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
	session.HandleStream(&mux, "echo", func(ctx context.Context, n int, s session.ServerStream[int, int]) (int, error) {
		if err := s.Started(ctx, n); err != nil {
			return 0, err
		}
		for v, err := range s.All(ctx) {
			if err != nil {
				return 0, err
			}
			if err := s.Send(ctx, v); err != nil {
				return 0, err
			}
		}
		return n, s.CloseSend()
	})
	asked := make(chan *session.Cancelled, 1)
	s, _, err := session.Join(ctx, rw, session.Hello{SDK: "test"}, session.Options{Mux: &mux, Window: 256, Cancelled: func(c *session.Cancelled, _ time.Duration) { asked <- c }})
	if err != nil {
		return err
	}
	defer s.Close()
	select {
	case c := <-asked:
		s.Drain(ctx, c)
		return s.Exit(ctx)
	case <-s.Done():
		return s.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// judge says what is wrong with how the sides saw a fault.
func judge(f Faults, host, program error) error {
	reader, writer := host, program // of the frame
	if f.Out {
		reader, writer = program, host
	}
	is := func(err error, all ...error) bool {
		for _, a := range all {
			if errors.Is(err, a) {
				return true
			}
		}
		return false
	}
	gone := []error{session.ErrLost, session.ErrExited, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, os.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, session.ErrProtocol, context.DeadlineExceeded, session.ErrTooSlow}
	var ok bool
	switch f.Do {
	case "":
		ok = is(host, session.ErrExited) && !is(host, session.ErrProtocol) && program == nil
	case Close, Reset, Truncate:
		ok = is(host, gone...) && (program == nil || is(program, gone...)) && !is(host, session.ErrProtocol) && !is(program, session.ErrProtocol)
	case Garbage, Oversize:
		ok = is(reader, session.ErrProtocol) && (writer == nil || is(writer, gone...)) // who has said EXIT may be away
	default:
		gone = append(gone, errData)
		ok = (host == nil || is(host, gone...)) && (program == nil || is(program, gone...))
	}
	if !ok {
		return fmt.Errorf("%+v: the supervisor saw %w, the program %w", f, host, program)
	}
	return nil
}

// frames of each direction are fewer than this.
const mostFrames = 40

// TestEveryFaultAtEveryFrame: no hang, no panic, the right error on both sides, and no goroutine is left.
func TestEveryFaultAtEveryFrame(t *testing.T) {
	for _, do := range append(AllFaults(), "") {
		t.Run(string(do), func(t *testing.T) {
			hit := 0
			for at := range mostFrames {
				for _, out := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) { // a hang is a deadlock here, and so is a goroutine that is left
						ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
						defer stop()
						f := Faults{Do: do, At: at, Out: out}
						a, b := net.Pipe()
						spoilt := f.Wrap(a).(*spoiled)
						host, program := talk(ctx, 50*time.Millisecond, spoilt, b)
						synctest.Wait() // until what read and wrote has gone, too
						if max(spoilt.in.count, spoilt.out.count) >= mostFrames {
							t.Fatal("there are more frames than are tried")
						}
						l := &spoilt.in
						if out {
							l = &spoilt.out
						}
						if l.count <= at && l.over == nil && !l.stall {
							f.Do = "" // it ended before the fault
						} else {
							hit++
						}
						if do == Duplicate && f.Do == "" {
							return // of other frames, by the end's own race
						}
						if err := judge(f, host, program); err != nil {
							t.Error(err)
						}
					})
				}
			}
			if hit < 20 && do != "" {
				t.Errorf("only %d frames were hit", hit)
			}
		})
	}
}

// TestFaultsOnSockets is the same with the kernel in between, for some frames.
func TestFaultsOnSockets(t *testing.T) {
	for _, do := range append(AllFaults(), "") {
		for _, at := range []int{0, 1, 2, 4, 7, 11} {
			for _, out := range []bool{false, true} {
				limit := time.Minute
				if do == Stall || do == Reorder {
					limit = 200 * time.Millisecond
				}
				ctx, stop := context.WithTimeout(t.Context(), limit)
				f := Faults{Do: do, At: at, Out: out}
				fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
				if err != nil {
					t.Fatal(err)
				}
				host, program := talk(ctx, limit/4, f.Wrap(os.NewFile(uintptr(fds[0]), "host")), os.NewFile(uintptr(fds[1]), "program"))
				stop()
				if err := judge(f, host, program); err != nil {
					t.Error(err)
				}
			}
		}
	}
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		left := strings.Count(string(buf[:runtime.Stack(buf, true)]), "ipc/session.(*")
		if left == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d frames of goroutines are left", left)
		}
	}
}
