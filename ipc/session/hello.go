package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"sandboxd/ipc/wire"
)

// The handshake of a program, in the order of the functions below:
//
//	program                    supervisor
//	Join    ─── HELLO ───────▶ Receive
//	        ◀── WELCOME ────── Arrival.Welcome   or ERROR: Arrival.Refuse

// Hello is what a program says of itself.
type Hello struct {
	SDK   string   // who speaks, such as "go/1", at most 64 bytes
	Verbs []string // what it serves; Join fills it in from the Mux
	Probe bool     // wants to see the WELCOME only, and is nobody's peer
}

// Welcome is what a program is told.
type Welcome struct {
	Self   Ref               // who it is
	Epoch  uint64            // its life: 1, and one more after each restart
	Cap    int               // bytes of a frame's body; 0: DefaultCap
	Window int               // bytes of each stream that the supervisor holds ready; 0: DefaultWindow
	Left   time.Duration     // until its deadline; 0: none
	Limits map[string]uint64 // what holds it, by the names of docs/protocol.md
	Verbs  []string          // what the supervisor serves
}

// Join says hello over rw, waits for the welcome and starts the session. rw is
// the session's from here on, and closed where Join fails.
func Join(ctx context.Context, rw io.ReadWriteCloser, h Hello, o Options) (*Session, Welcome, error) {
	l := newLink(rw)
	h.Verbs = o.Mux.Verbs()
	var w Welcome
	err := l.within(ctx, func() error {
		if err := l.send(h.append); err != nil {
			return err
		}
		body, err := l.read()
		if err != nil {
			return err
		}
		w, err = decodeWelcome(body)
		return err
	})
	if err != nil {
		rw.Close()
		return nil, Welcome{}, fmt.Errorf("session: join: %w", err)
	}
	o.Self, o.host, l.cap = w.Self, false, w.Cap
	o.verbs = verbSet(w.Verbs)
	return newSession(l, o), w, nil
}

// Arrival is a program that has said hello and waits for an answer.
type Arrival struct {
	Hello
	l *link
}

// Receive reads the hello of a program that has connected over rw. rw is the
// Arrival's from here on, and closed where Receive fails.
func Receive(ctx context.Context, rw io.ReadWriteCloser) (*Arrival, error) {
	l := newLink(rw)
	a := &Arrival{l: l}
	err := l.within(ctx, func() error {
		body, err := l.read()
		if err == nil {
			a.Hello, err = decodeHello(body)
		}
		return err
	})
	if err != nil {
		if errors.Is(err, ErrProtocol) {
			a.Refuse(err)
		}
		rw.Close()
		return nil, fmt.Errorf("session: hello: %w", err)
	}
	return a, nil
}

// Welcome answers and starts the session; nil without an error for a probe, which is closed.
func (a *Arrival) Welcome(ctx context.Context, w Welcome, o Options) (*Session, error) {
	if w.Cap == 0 {
		w.Cap = DefaultCap
	}
	if w.Window == 0 {
		w.Window = DefaultWindow
	}
	w.Verbs = o.Mux.Verbs()
	if err := a.l.within(ctx, func() error { return a.l.send(w.append) }); err != nil || a.Probe {
		a.l.rw.Close()
		return nil, err
	}
	o.host, o.Peer, a.l.cap = true, w.Self, w.Cap
	o.verbs = verbSet(a.Verbs)
	return newSession(a.l, o), nil
}

// Refuse answers with why, and closes.
func (a *Arrival) Refuse(why error) {
	m := message{kind: fail, err: Pack(why, Ref{})}
	_ = a.l.send(m.append)
	a.l.rw.Close()
}

func verbSet(verbs []string) map[string]bool {
	set := make(map[string]bool, len(verbs))
	for _, v := range verbs {
		set[v] = true
	}
	return set
}

func (h *Hello) append(b []byte) []byte {
	flags := uint64(0)
	if h.Probe {
		flags = 1
	}
	b = wire.AppendArrayHead(b, shapes[hello].n)
	b = wire.AppendUint(b, uint64(hello))
	b = wire.AppendUint(b, Proto)
	b = wire.AppendStr(b, clip(h.SDK, maxSDK))
	return wire.AppendUint(appendStrings(b, h.Verbs), flags)
}

func decodeHello(body []byte) (h Hello, err error) {
	s := wire.NewScanner(body)
	if n, k := s.Array(), kind(s.Uint(255)); n != shapes[hello].n || k != hello {
		return h, violation("%v of %d elements where HELLO belongs", k, n)
	}
	if p := s.Uint(maxNumber); s.Err() == nil && p != Proto {
		return h, violation("HELLO: protocol version %d, this side speaks %d", p, Proto)
	}
	h.SDK = s.Str(maxSDK)
	h.Verbs = scanVerbs(&s)
	h.Probe = s.Uint(1) == 1
	if err := s.Done(); err != nil {
		return Hello{}, violation("HELLO: %w", err)
	}
	return h, nil
}

func (w *Welcome) append(b []byte) []byte {
	b = wire.AppendArrayHead(b, shapes[welcome].n)
	b = wire.AppendUint(b, uint64(welcome))
	b = wire.AppendUint(b, Proto)
	b = wire.AppendStr(wire.AppendStr(b, clip(w.Self.ID, maxName)), clip(w.Self.Name, maxName))
	b = wire.AppendUint(b, w.Epoch)
	b = wire.AppendUint(b, uint64(w.Cap))
	b = wire.AppendUint(b, uint64(w.Window))
	b = wire.AppendUint(b, millis(w.Left))
	b = wire.AppendMapHead(b, len(w.Limits))
	for k, v := range w.Limits {
		b = wire.AppendUint(wire.AppendStr(b, k), v)
	}
	return appendStrings(b, w.Verbs)
}

func decodeWelcome(body []byte) (w Welcome, err error) {
	s := wire.NewScanner(body)
	n, k := s.Array(), kind(s.Uint(255))
	if k == fail {
		var m message
		if err := m.decode(body); err != nil {
			return w, err
		}
		return w, m.err
	}
	if n != shapes[welcome].n || k != welcome {
		return w, violation("%v of %d elements where WELCOME belongs", k, n)
	}
	if p := s.Uint(maxNumber); s.Err() == nil && p != Proto {
		return w, violation("WELCOME: protocol version %d, this side speaks %d", p, Proto)
	}
	w.Self = Ref{ID: s.Str(maxName), Name: s.Str(maxName)}
	w.Epoch = s.Uint(maxNumber)
	w.Cap = int(s.Uint(64 << 20))
	w.Window = int(s.Uint(64 << 20))
	w.Left = duration(s.Uint(maxNumber))
	limits := s.Map()
	for range limits {
		if s.Err() != nil {
			break
		}
		if w.Limits == nil {
			w.Limits = map[string]uint64{}
		}
		k := s.Str(maxName)
		w.Limits[k] = s.Uint(maxNumber)
	}
	w.Verbs = scanVerbs(&s)
	if err := s.Done(); err != nil {
		return Welcome{}, violation("WELCOME: %w", err)
	}
	if w.Cap < 4<<10 || w.Window < minItem {
		return Welcome{}, violation("WELCOME: frames of %d bytes and windows of %d are of no use", w.Cap, w.Window)
	}
	return w, nil
}

func appendStrings(b []byte, list []string) []byte {
	b = wire.AppendArrayHead(b, len(list))
	for _, v := range list {
		b = wire.AppendStr(b, v)
	}
	return b
}

func scanVerbs(s *wire.Scanner) []string {
	n := s.Array()
	if n > maxVerbs {
		s.Fail(fmt.Errorf("%d verbs, at most %d", n, maxVerbs))
	}
	var list []string
	for i := 0; i < n && s.Err() == nil; i++ {
		list = append(list, scanName(s, "verb"))
	}
	return slices.Clip(list)
}

// millis is d as time left on the wire, where 0 is no deadline.
func millis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}

// duration is the reverse of millis, and as long as a Duration gets for what is longer.
func duration(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(1<<63-1)/uint64(time.Millisecond))) * time.Millisecond
}
