package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"

	"sandboxd/ipc/wire"
)

// tape is a connection of which what comes is known, and what goes is of no interest.
type tape struct{ io.Reader }

func (tape) Write(p []byte) (int, error) { return len(p), nil }
func (tape) Close() error                { return nil }

// FuzzFrame: what is read as a message says the same when it is written again.
func FuzzFrame(f *testing.F) {
	for _, b := range breaches() {
		for _, raw := range b.raw {
			if body := numbered(raw, 1, 2); len(body) < 4<<10 {
				f.Add(framed(body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		l := newLink(tape{bytes.NewReader(in)})
		l.cap = DefaultCap
		for {
			body, err := l.read()
			if err != nil {
				return
			}
			var m, again message
			if err := m.decode(body); err != nil {
				if !errors.Is(err, ErrProtocol) {
					t.Fatal(err)
				}
				continue
			}
			out := m.append(nil)
			if err := wire.Check(out, wire.Limits{}); err != nil {
				t.Fatalf("%x became %x: %v", body, out, err)
			}
			if err := again.decode(out); err != nil || !reflect.DeepEqual(m, again) {
				t.Fatalf("%+v\n%+v\n%v", m, again, err)
			}
		}
	})
}

// FuzzHandshake: whatever is said to either side, it is refused or understood, at once.
func FuzzHandshake(f *testing.F) {
	f.Add(true, goodHello())
	f.Add(false, goodWelcome())
	f.Add(false, framed((&message{kind: fail, err: &RemoteError{Type: "sandboxd.Busy"}}).append(nil)))
	f.Fuzz(func(t *testing.T, host bool, in []byte) {
		conn := tape{bytes.NewReader(in)}
		ctx, stop := context.WithTimeout(t.Context(), watchdog)
		defer stop()
		if host {
			a, err := Receive(ctx, conn)
			if err != nil {
				return
			}
			again, err := decodeHello(a.append(nil))
			if err != nil || !reflect.DeepEqual(again, a.Hello) {
				t.Fatalf("%+v\n%+v\n%v", again, a.Hello, err)
			}
			return
		}
		s, w, err := Join(ctx, conn, Hello{}, Options{})
		if err != nil {
			return
		}
		s.Close()
		again, err := decodeWelcome(w.append(nil))
		if err != nil || len(again.Limits) != len(w.Limits) || again.Self != w.Self || again.Left > w.Left {
			t.Fatalf("%+v\n%+v\n%v", again, w, err)
		}
	})
}

// FuzzStreams: a dialog does what the model says.
func FuzzStreams(f *testing.F) {
	f.Add([]byte{0, 0, 0x0c, 0x0d, 0x0c, 0x0d, 0, 1, 0xff, 0, 0xfe, 1})
	f.Add([]byte{1, 9, 0xfc, 0xfc, 0xfc, 0, 0, 0, 0xfd, 1})
	f.Fuzz(func(t *testing.T, ops []byte) { driveStreams(t, ops[:min(len(ops), 400)]) })
}

// FuzzConversation: a supervisor's or a program's session, with calls and
// dialogs open both ways, is told anything. It ends when the bytes do, or before.
func FuzzConversation(f *testing.F) {
	for _, b := range breaches() {
		var in []byte
		in = append(in, framed(start_(2, 1, 1000))...)
		for _, raw := range b.raw {
			if body := numbered(raw, 2, 1); len(body) < 4<<10 {
				in = append(in, framed(body)...)
			}
		}
		f.Add(false, in)
	}
	f.Fuzz(func(t *testing.T, host bool, in []byte) {
		var mux Mux
		mux.Add("d", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
			_ = c.Stream().Start(ctx, nil)
			item, err := c.Stream().Recv(ctx)
			if err == nil {
				err = c.Stream().Send(ctx, item)
			}
			return item, err
		})
		l := newLink(tape{bytes.NewReader(in)})
		l.cap = 64 << 10
		s := newSession(l, Options{Mux: &mux, host: host, Peer: workRef, Window: 1000, Budget: 1 << 20, Calls: 8})
		for _, mode := range []Mode{Unary, Dialog} {
			c := &call{s: s, mine: true, verb: "v", mode: mode, cid: s.next, window: 1000, room: 1000, final: make(chan struct{})}
			s.calls[c.cid], s.next = c, s.next+2
		}
		s.begin()
		select {
		case <-s.Done():
		case <-time.After(watchdog):
			t.Fatal("it hangs")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held < 0 || s.theirs < 0 || len(s.calls) > 0 || s.err == nil {
			t.Fatalf("%d bytes and %d calls are held, %d are open, %v", s.held, s.theirs, len(s.calls), s.err)
		}
	})
}

// FuzzError: what comes as an error can be printed, told apart and passed on.
func FuzzError(f *testing.F) {
	f.Add(body(anError...))
	f.Add(body("test.QuotaError", "m", "s", []any{"1", "n"}, []any{[]any{"2", "m"}}, []any{"3", "o"}, []byte{0x81, 0xa5, 'L', 'i', 'm', 'i', 't', 3}))
	f.Fuzz(func(t *testing.T, in []byte) {
		if wire.Check(in, wire.Limits{Depth: wire.DefaultDepth - 1}) != nil {
			return
		}
		s := wire.NewScanner(in)
		e := scanError(&s)
		if s.Done() != nil {
			return
		}
		_ = e.Error()
		for _, is := range []error{ErrBusy, context.Canceled, errQuota} {
			_ = errors.Is(e, is)
		}
		if q, ok := errors.AsType[quotaError](e); ok {
			_ = q.Error()
		}
		out := fit(Pack(e, hostRef), DefaultCap)
		m := message{kind: fail, cid: 2, err: out}
		var again message
		if err := again.decode(m.append(nil)); err != nil || again.err.Type != e.Type || again.err.Source != e.Source {
			t.Fatalf("%+v\n%+v\n%v", e, again.err, err)
		}
	})
}
