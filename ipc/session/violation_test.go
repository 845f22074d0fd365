package session

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sandboxd/ipc/wire"
)

// body encodes a message, or what looks like one: integers, strings, []byte (a
// value that is encoded already) and []any.
func body(elements ...any) []byte {
	b := wire.AppendArrayHead(nil, len(elements))
	for _, e := range elements {
		b = element(b, e)
	}
	return b
}

func element(b []byte, e any) []byte {
	switch e := e.(type) {
	case nil:
		return wire.AppendNil(b)
	case kind:
		return wire.AppendUint(b, uint64(e))
	case int:
		return wire.AppendInt(b, int64(e))
	case string:
		return wire.AppendStr(b, e)
	case []byte:
		return append(b, e...)
	case []any:
		return append(b, body(e...)...)
	case map[string]string:
		return appendHeaders(b, e)
	}
	panic(fmt.Sprintf("%T", e))
}

var (
	noHeaders = map[string]string{}
	anError   = []any{"X", "", "", []any{"1", "n"}, []any{}, nil, nil}
)

// breach is something that breaks the protocol.
type breach struct {
	name string
	to   string // "host", "program" or "both": who sees it
	at   string // the state of the connection: see inState
	raw  []any  // bodies, or elements of one; the last is the breach
	says string // part of the text of ERROR
}

func start_(cid int, mode int, window int) []byte {
	return body(start, cid, "d", mode, 0, window, noHeaders, nil)
}

// breaches are the rows of section 9. A cid of theirs is 1 or 2, by who sends; the first call of ours likewise.
func breaches() []breach {
	long := strings.Repeat("x", 129)
	over := make([]byte, 65600)
	for i := range over {
		over[i] = 0xc0
	}
	many := append([]byte{0xdd, 0, 1, 0, 0}, over[:65536]...)
	deep := append([]byte(strings.Repeat("\x91", 33)), 0xc0)
	headers := map[string]string{}
	for i := range 17 {
		headers[fmt.Sprint(i)] = ""
	}
	frame := func(name string, raw []byte, says string) breach {
		return breach{name, "both", "", []any{raw}, says}
	}
	rows := []breach{
		frame("empty frame", nil, "a frame of 0 bytes"),
		frame("frame too long", make([]byte, DefaultCap+1), "a frame of 1048577 bytes"),
		frame("two values", []byte{0x91, 30, 0xc0}, "bytes follow the value"),
		frame("cut short", []byte{0x92, 28}, "exceeds the bytes left"),
		frame("forbidden byte", []byte{0xc1}, "does not have the form"),
		frame("extension", []byte{0xd4, 5, 0}, "does not have the form"),
		frame("too deep", deep, "nest too deeply"),
		frame("too many values", many, "too many values"),
		frame("no array", []byte{0xc0}, "does not have the form"),
		frame("empty array", []byte{0x90}, "type 0"),
		frame("unknown type", body(31, 1), "unexpected type 31"),
		frame("unknown type 255", body(255), "unexpected type 255"),
		frame("negative type", body(-1, 1), "out of range"),
		frame("type is a string", body("PING", 1), "does not have the form"),
		frame("HELLO again", (&Hello{}).append(nil), "unexpected HELLO"),
		frame("WELCOME again", (&Welcome{}).append(nil), "unexpected WELCOME"),
		frame("PING with more", body(ping, 1, 2), "3 elements, want 2"),
		frame("EXIT with more", body(exit, 0), "2 elements, want 1"),
		frame("PING of a string", body(ping, "1"), "does not have the form"),
		frame("PING beyond 2^53", body(ping, 1<<53+1), "out of range"),
		frame("PONG unasked", body(pong, 5), "PONG 5"),
		frame("START without cid", start_(0, 0, 0), "START of call 0"),
		frame("verb empty", body(start, 1, "", 0, 0, 0, noHeaders, nil), "verb is empty"),
		frame("verb too long", body(start, 1, long, 0, 0, 0, noHeaders, nil), "out of range"),
		frame("verb no text", body(start, 1, "\xff", 0, 0, 0, noHeaders, nil), "does not have the form"),
		frame("mode 2", start_(1, 2, 0), "out of range"),
		frame("window in mode 0", start_(1, 0, 1), "a window where there is no stream"),
		frame("too many headers", body(start, 1, "d", 0, 0, 0, headers, nil), "17 headers"),
		frame("header too long", body(start, 1, "d", 0, 0, 0, map[string]string{"k": strings.Repeat("v", 513)}, nil), "out of range"),
		frame("headers are an array", body(start, 1, "d", 0, 0, 0, []any{}, nil), "does not have the form"),
		frame("cid beyond 2^53", body(stop, 1<<53+1), "out of range"),
		frame("error of 6 elements", body(fail, 0, []any{"X", "", "", []any{"1", "n"}, []any{}, nil}), "an error has 7 elements"),
		frame("error with a long path", body(fail, 0, []any{"X", "", "", []any{"1", "n"}, make([]any, 33), nil, nil}), "33 relays"),
		frame("YIELD without a call", body(yield, 0, nil), "YIELD without a call"),
		frame("RETURN without a call", body(giveBack, 0, nil), "RETURN without a call"),
		frame("STOP of nobody's call", body(stop, 7001), "which nobody opened"),
		frame("YIELD of nobody's call", body(yield, 7002, nil), "which nobody opened"),
		frame("ERROR of nobody's call", body(fail, 7002, anError), "which nobody opened"),
		frame("CANCEL of nobody's call", body(cancel, 7001, []any{"", ""}, "", 0), "which nobody opened"),
		{"EXIT by the supervisor", "program", "", []any{body(exit)}, "EXIT by the supervisor"},
		{"CANCEL of the whole by a program", "host", "", []any{body(cancel, 0, []any{"", ""}, "", 0)}, "CANCEL without a call"},
		{"CANCELACK of the whole by the supervisor", "program", "", []any{body(cancelAck, 0, 0)}, "CANCELACK without a call"},
		{"CANCELACK of the whole unasked", "host", "", []any{body(cancelAck, 0, 0)}, "CANCELACK without CANCEL"},
		{"wrong parity", "host", "", []any{start_(2, 0, 0)}, "START of call 2"},
		{"wrong parity", "program", "", []any{start_(1, 0, 0)}, "START of call 1"},
		{"numbers do not grow", "host", "", []any{start_(5, 0, 0), start_(3, 0, 0)}, "START of call 3 after 5"},
		{"number twice", "host", "", []any{start_(5, 0, 0), start_(5, 0, 0)}, "START of call 5 after 5"},
		{"numbers do not grow", "program", "", []any{start_(4, 0, 0), start_(2, 0, 0)}, "START of call 2 after 4"},
		// A dialog that they opened at us.
		{"STARTACK by the opener", "both", "served", []any{later(startAck, T, 1)}, "STARTACK for call"},
		{"STARTED by the opener", "both", "served", []any{later(started, T, nil)}, "STARTED for call"},
		{"RETURN by the opener", "both", "served", []any{later(giveBack, T, nil)}, "RETURN for call"},
		{"ERROR by the opener", "both", "served", []any{later(fail, T, anError)}, "ERROR for call"},
		{"CANCELACK by the opener", "both", "served", []any{later(cancelAck, T, 0)}, "CANCELACK for call"},
		{"YIELD after STOP", "both", "served", []any{later(stop, T), later(yield, T, nil)}, "YIELD for call"},
		{"STOP twice", "both", "served", []any{later(stop, T), later(stop, T)}, "STOP for call"},
		{"YIELD without credit", "both", "served", []any{later(yield, T, wire.AppendBytes(nil, make([]byte, 1000))), later(yield, T, nil)}, "YIELD for call"},
		{"CREDIT overflow", "both", "served", []any{later(credit, T, 1<<53), later(credit, T, 1<<53)}, "CREDIT for call"},
		// A dialog that we opened, before STARTACK, before STARTED, and after it.
		{"YIELD before STARTACK", "both", "opened", []any{later(yield, O, nil)}, "YIELD for call"},
		{"STARTED before STARTACK", "both", "opened", []any{later(started, O, nil)}, "STARTED for call"},
		{"CREDIT before STARTACK", "both", "opened", []any{later(credit, O, 1)}, "CREDIT for call"},
		{"STOP before STARTACK", "both", "opened", []any{later(stop, O)}, "STOP for call"},
		{"RETURN before STARTACK", "both", "opened", []any{later(giveBack, O, nil)}, "RETURN for call"},
		{"CANCEL by the server", "both", "opened", []any{later(cancel, O, []any{"", ""}, "", 0)}, "CANCEL for call"},
		{"CANCELACK unasked", "both", "opened", []any{later(cancelAck, O, 0)}, "CANCELACK for call"},
		{"STARTACK twice", "both", "opened", []any{later(startAck, O, 1), later(startAck, O, 1)}, "STARTACK for call"},
		{"YIELD before STARTED", "both", "opened", []any{later(startAck, O, 1), later(yield, O, nil)}, "YIELD for call"},
		{"STARTED twice", "both", "opened", []any{later(startAck, O, 1), later(started, O, nil), later(started, O, nil)}, "STARTED for call"},
		{"server's YIELD after STOP", "both", "opened", []any{later(startAck, O, 1), later(started, O, nil), later(stop, O), later(yield, O, nil)}, "YIELD for call"},
		// A call of mode 0 that we opened.
		{"STARTACK in mode 0", "both", "asked", []any{later(startAck, O, 1)}, "STARTACK for call"},
		{"STARTED in mode 0", "both", "asked", []any{later(started, O, nil)}, "STARTED for call"},
		{"YIELD in mode 0", "both", "asked", []any{later(yield, O, nil)}, "YIELD for call"},
		{"CREDIT in mode 0", "both", "asked", []any{later(credit, O, 1)}, "CREDIT for call"},
		{"STOP in mode 0", "both", "asked", []any{later(stop, O)}, "STOP for call"},
	}
	return rows
}

// inState brings the connection into a state, and returns the numbers of the calls that stand for T and O.
func inState(t testing.TB, state string, host bool, s *Session, p *script) (theirs, ours int) {
	t.Helper()
	theirs, ours = 2, 1
	if host {
		theirs, ours = 1, 2
	}
	switch state {
	case "served":
		p.raw(framed(start_(theirs, 1, 1000)))
		p.want(startAck)
	case "opened":
		if _, err := s.Open(bounded(t), "v", nil); err != nil {
			t.Fatal(err)
		}
		p.want(start)
	case "asked":
		ctx := bounded(t)
		go s.Call(ctx, "v", nil)
		p.want(start)
	}
	return theirs, ours
}

// letter stands for the number of a call that they, or we, have open.
type letter byte

const (
	T letter = 'T'
	O letter = 'O'
)

// later is what body will be when the numbers are known.
func later(elements ...any) []any { return elements }

func numbered(raw any, theirs, ours int) []byte {
	list, ok := raw.([]any)
	if !ok {
		return raw.([]byte)
	}
	list = slices.Clone(list)
	for i, e := range list {
		switch l, _ := e.(letter); l {
		case T:
			list[i] = theirs
		case O:
			list[i] = ours
		}
	}
	return body(list...)
}

func TestEveryBreachEndsTheConnectionAndIsTold(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, r := range breaches() {
			for _, host := range []bool{true, false} {
				if r.to == "host" && !host || r.to == "program" && host {
					continue
				}
				t.Run(fmt.Sprintf("%s, host %v", r.name, host), func(t *testing.T) {
					var mux Mux
					mux.Add("d", Dialog, hang)
					s, p := scripted(t, over, host, false, Options{Mux: &mux, Window: 1000})
					theirs, ours := inState(t, r.at, host, s, p)
					for _, raw := range r.raw {
						p.raw(framed(numbered(raw, theirs, ours)))
					}
					for {
						m := p.next()
						if m.kind == fail && m.cid != 0 || m.kind == start || m.kind == startAck {
							continue // refused calls
						}
						if m.kind != fail || m.err.Type != "sandboxd.Protocol" || !strings.Contains(m.err.Message, r.says) {
							t.Errorf("told %v %v, want %q", m.kind, m.err, r.says)
						}
						break
					}
					if m := p.next(); m.kind != 0 {
						t.Errorf("%v after its last words", m.kind)
					}
					<-s.Done()
					if err := s.Err(); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), r.says) {
						t.Error(err)
					}
				})
			}
		}
	})
}

// What crosses the end of a call is no breach.
func TestMessagesThatCrossTheEndAreIgnored(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, host := range []bool{true, false} {
			var mux Mux
			mux.Add("d", Dialog, func(context.Context, *Inbound) ([]byte, error) { return nil, nil })
			s, p := scripted(t, over, host, false, Options{Mux: &mux})
			theirs, _ := inState(t, "served", host, s, p)
			p.want(giveBack)
			for _, late := range [][]byte{
				body(yield, theirs, nil), body(credit, theirs, 5), body(stop, theirs), body(stop, theirs), body(cancel, theirs, []any{"", ""}, "", 0),
			} {
				p.raw(framed(late))
			}
			p.raw(framed(body(ping, 3)))
			p.want(pong)
		}
	})
}

// heap is what is in use, after everything that can go has gone.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A hostile peer sends as much as it likes, and reads nothing: what it makes us hold is bounded.
func TestFloodsAreBounded(t *testing.T) {
	for _, r := range []struct {
		name  string
		frame func(i int) []byte
		n     int
		most  int64
		ends  string // why the session does; "": it lives
	}{
		{"PING", func(i int) []byte { return body(ping, i) }, 300000, 6 << 20, "does not read the answers"},
		{"START of nothing", func(i int) []byte { return body(start, 2*i+1, "x", 0, 0, 0, noHeaders, nil) }, 60000, 6 << 20, "does not read the answers"},
		{"START of calls that hang", func(i int) []byte {
			return body(start, 2*i+1, "u", 0, 0, 0, noHeaders, wire.AppendBytes(nil, make([]byte, 1<<18)))
		}, 300, 40 << 20, ""},
		{"START with short deadlines", func(i int) []byte { return body(start, 2*i+1, "deaf", 0, 1, 0, noHeaders, nil) }, 4000, 12 << 20, ""},
		{"dialogs with full windows", func(i int) []byte {
			n := 2*(i/4) + 1
			if i%4 == 0 {
				return body(start, n, "d", 1, 0, 1<<30, noHeaders, nil)
			}
			if n > 2*25 {
				return body(ping, 1) // refused
			}
			return body(yield, n, wire.AppendBytes(nil, make([]byte, 120<<10)))
		}, 256 * 4, 40 << 20, ""},
		{"CANCEL again and again", func(i int) []byte {
			if i == 0 {
				return body(start, 1, "deaf", 0, 0, 0, noHeaders, nil)
			}
			return body(cancel, 1, []any{"", ""}, "", 0)
		}, 300000, 6 << 20, "does not read the answers"},
	} {
		t.Run(r.name, func(t *testing.T) {
			noLeaks(t)
			var mux Mux
			free := make(chan struct{})
			defer close(free)
			began := make(chan struct{}, 1000)
			mux.Add("u", Unary, hang)
			mux.Add("d", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) { began <- struct{}{}; return hang(ctx, c) })
			mux.Add("deaf", Unary, func(context.Context, *Inbound) ([]byte, error) { <-free; return nil, nil })
			s, p := scripted(t, sockets, true, true, Options{Mux: &mux})
			before := heap()
			f := p.rw.(socket)
			_ = f.SetWriteDeadline(time.Now().Add(watchdog))
			var buf []byte
			for i := 0; i < r.n; i++ {
				buf = append(buf, framed(r.frame(i))...)
				if len(buf) > 60<<10 || i == r.n-1 {
					if _, err := f.Write(buf); err != nil {
						if r.ends == "" {
							t.Fatal(i, err, s.Err())
						}
						break
					}
					buf = buf[:0]
				}
				if strings.HasPrefix(r.name, "dialogs") && i%4 == 0 && i < 100 {
					_, _ = f.Write(buf)
					buf = buf[:0]
					<-began // so that STARTACK is out: it is what allows the items
				}
			}
			if r.ends != "" {
				<-s.Done()
				if err := s.Err(); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), r.ends) {
					t.Error(err)
				}
			} else if err := s.Err(); err != nil {
				t.Error(err)
			}
			if grown := heap() - before; grown > r.most {
				t.Errorf("%d KiB are held, at most %d", grown>>10, r.most>>10)
			} else {
				t.Logf("%d KiB are held", grown>>10)
			}
			s.Close()
		})
	}
}
