package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// watchdog turns a hang into a failure.
const watchdog = 2 * time.Minute

// bounded is a test's context. A test that goes on only because it has ended has failed.
func bounded(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), watchdog)
	t.Cleanup(func() {
		if ctx.Err() == context.DeadlineExceeded {
			t.Error("something waited for the watchdog")
		}
		stop()
	})
	return ctx
}

// socket is a Unix socket with the write that does not wait, which real connections have.
type socket struct{ *os.File }

func (s socket) TryWrite(p []byte) (n int, err error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) })
	if errors.Is(err, unix.EAGAIN) {
		return 0, nil
	}
	return max(n, 0), errors.Join(cerr, err)
}

type transport func(testing.TB) (a, b io.ReadWriteCloser)

func sockets(t testing.TB) (a, b io.ReadWriteCloser) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return socket{os.NewFile(uintptr(fds[0]), "host")}, socket{os.NewFile(uintptr(fds[1]), "program")}
}

func pipes(testing.TB) (a, b io.ReadWriteCloser) { return net.Pipe() }

// both runs f on both transports, and sees that no goroutine of a session is left.
func both(t *testing.T, f func(t *testing.T, over transport)) {
	t.Helper()
	for name, over := range map[string]transport{"socket": sockets, "pipe": pipes} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			f(t, over)
		})
	}
}

// noLeaks fails the test where goroutines of this package outlive it.
func noLeaks(t testing.TB) {
	before := goroutines()
	t.Cleanup(func() { // runs last, for it was registered first
		left := map[string]string{}
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			left = goroutines()
			for id := range before {
				delete(left, id)
			}
			if len(left) == 0 {
				return
			}
		}
		t.Errorf("%d goroutines are left: %v", len(left), left)
	})
}

// goroutines are the stacks of those that run methods of this package, by number.
func goroutines() map[string]string {
	all := map[string]string{}
	buf := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if id, _, _ := strings.Cut(g, " ["); strings.Contains(g, "ipc/session.(*") {
			all[id] = g
		}
	}
	return all
}

var (
	hostRef = Ref{"0", "host"}
	workRef = Ref{"0.1", "worker"}
)

// pair is a session's two ends.
func pair(t testing.TB, over transport, host, program Options) (h, p *Session) {
	t.Helper()
	return pairAs(t, over, workRef, host, program)
}

func pairAs(t testing.TB, over transport, who Ref, host, program Options) (h, p *Session) {
	t.Helper()
	a, b := over(t)
	ctx := bounded(t)
	var joined sync.WaitGroup
	joined.Go(func() {
		var err error
		if p, _, err = Join(ctx, b, Hello{SDK: "test"}, program); err != nil {
			t.Error(err)
		}
	})
	arrival, err := Receive(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	host.Self = hostRef
	if h, err = arrival.Welcome(ctx, Welcome{Self: who, Epoch: 1}, host); err != nil {
		t.Fatal(err)
	}
	joined.Wait()
	t.Cleanup(func() {
		h.Close()
		p.Close()
	})
	return h, p
}

// script is a peer that says exactly what a test wants it to.
type script struct {
	t    testing.TB
	rw   io.ReadWriteCloser
	said []byte // what was received and not looked at yet
	mu   sync.Mutex
	more *sync.Cond
	eof  error
}

// scripted connects a session, of a host or of a program, to a script. The script reads all the time unless deaf.
func scripted(t testing.TB, over transport, host, deaf bool, o Options) (*Session, *script) {
	t.Helper()
	a, b := over(t)
	p := &script{t: t, rw: b}
	p.more = sync.NewCond(&p.mu)
	ctx := bounded(t)
	var s *Session
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !host {
			s, _, err = Join(ctx, a, Hello{SDK: "test"}, o)
			return
		}
		var arrival *Arrival
		if arrival, err = Receive(ctx, a); err == nil {
			o.Self = hostRef
			s, err = arrival.Welcome(ctx, Welcome{Self: workRef, Epoch: 1}, o)
		}
	}()
	l := newLink(b)
	if host {
		h := Hello{SDK: "script", Verbs: []string{"v"}}
		p.raw(framed(h.append(nil)))
	}
	if _, rerr := l.read(); rerr != nil {
		t.Fatal(rerr)
	}
	if !host {
		w := Welcome{Self: workRef, Epoch: 1, Cap: DefaultCap, Window: DefaultWindow, Verbs: []string{"v"}}
		p.raw(framed(w.append(nil)))
	}
	if <-done; err != nil {
		t.Fatal(err)
	}
	if !deaf {
		go p.listen()
	}
	t.Cleanup(func() {
		s.Close()
		b.Close()
	})
	return s, p
}

func framed(body []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func (p *script) listen() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.rw.Read(buf)
		p.mu.Lock()
		p.said = append(p.said, buf[:n]...)
		p.eof = err
		p.more.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// raw sends bytes; where the other side has closed, that is not this peer's mistake.
func (p *script) raw(b []byte) { _, _ = p.rw.Write(b) }

// send sends messages.
func (p *script) send(all ...message) {
	var b []byte
	for _, m := range all {
		b = append(b, framed(m.append(nil))...)
	}
	p.raw(b)
}

// next is the next message that was said; kind 0 at the end.
func (p *script) next() (m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if len(p.said) >= 4 {
			n := int(binary.LittleEndian.Uint32(p.said))
			if len(p.said) >= 4+n {
				body := bytes.Clone(p.said[4 : 4+n])
				p.said = p.said[4+n:]
				if err := m.decode(body); err != nil {
					p.t.Errorf("it said what is no message: %x: %v", body, err)
				}
				return m
			}
		}
		if p.eof != nil {
			if len(p.said) > 0 {
				p.t.Errorf("the end came within a frame: %x", p.said)
			}
			return message{}
		}
		p.more.Wait()
	}
}

// want takes the next message, which is to be of that kind.
func (p *script) want(k kind) message {
	p.t.Helper()
	m := p.next()
	if m.kind != k {
		p.t.Fatalf("%v %+v, want %v", m.kind, m, k)
	}
	return m
}

// nilPayload is the value nil, encoded.
var nilPayload = []byte{0xc0}

// hang is a function that ends with its context.
func hang(ctx context.Context, _ *Inbound) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
