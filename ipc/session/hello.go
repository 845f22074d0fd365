package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
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

// Join says hello over rw, waits for the welcome and starts the session; a
// probe's is nil. rw is the session's from here on, and closed where Join fails.
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
		l.turnAway(err)
		return nil, Welcome{}, fmt.Errorf("session: join: %w", err)
	}
	if h.Probe {
		return nil, w, rw.Close()
	}
	o.Self, o.host, l.cap = w.Self, false, w.Cap
	o.verbs = verbSet(w.Verbs)
	return newSession(l, o).begin(), w, nil
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
		l.turnAway(err)
		return nil, fmt.Errorf("session: hello: %w", err)
	}
	return a, nil
}

// turnAway ends a handshake that failed. Who broke the protocol is told.
func (l *link) turnAway(err error) {
	if _, told := errors.AsType[*RemoteError](err); errors.Is(err, ErrProtocol) && !told {
		l.refuse(err)
	}
	l.rw.Close()
}

// Welcome answers and starts the session; nil without an error for a probe, which is closed.
func (a *Arrival) Welcome(ctx context.Context, w Welcome, o Options) (*Session, error) {
	o.host = true
	o = o.defaults()
	w.Cap, w.Window = cmp.Or(w.Cap, DefaultCap), cmp.Or(w.Window, o.Window)
	w.Verbs = o.Mux.Verbs()
	if err := a.l.within(ctx, func() error { return a.l.send(w.append) }); err != nil || a.Probe {
		a.l.rw.Close()
		return nil, err
	}
	o.Peer, a.l.cap = w.Self, w.Cap
	o.verbs = verbSet(a.Verbs)
	return newSession(a.l, o).begin(), nil
}

// Refuse answers with why, and closes.
func (a *Arrival) Refuse(why error) { a.l.refuse(why) }

func verbSet(verbs []string) map[string]bool {
	set := make(map[string]bool, len(verbs))
	for _, v := range verbs {
		set[v] = true
	}
	return set
}
