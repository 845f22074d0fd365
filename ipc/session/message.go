package session

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"sandboxd/ipc/wire"
)

// kind is the first element of every message.
type kind uint8

const (
	hello     kind = 16 // program → supervisor, first
	welcome   kind = 17 // supervisor → program, second
	start     kind = 18 // opener → server
	startAck  kind = 19 // server → opener, dialogs only, as the rest up to stop
	started   kind = 20 // server → opener
	yield     kind = 21 // both
	credit    kind = 22 // both
	stop      kind = 23 // both
	giveBack  kind = 24 // server → opener: RETURN
	fail      kind = 25 // server → opener: ERROR; with cid 0 both
	cancel    kind = 26 // opener → server; with cid 0 supervisor → program
	cancelAck kind = 27 // who got CANCEL
	ping      kind = 28 // both
	pong      kind = 29 // who got PING
	exit      kind = 30 // program → supervisor, last
)

// shapes are the messages' names and numbers of elements, the type included.
var shapes = [...]struct {
	name string
	n    int
}{
	hello: {"HELLO", 5}, welcome: {"WELCOME", 10}, start: {"START", 8}, startAck: {"STARTACK", 3}, started: {"STARTED", 3},
	yield: {"YIELD", 3}, credit: {"CREDIT", 3}, stop: {"STOP", 2}, giveBack: {"RETURN", 3}, fail: {"ERROR", 3},
	cancel: {"CANCEL", 5}, cancelAck: {"CANCELACK", 3}, ping: {"PING", 2}, pong: {"PONG", 2}, exit: {"EXIT", 1},
}

func (k kind) String() string {
	if int(k) < len(shapes) && shapes[k].n > 0 {
		return shapes[k].name
	}
	return "type " + strconv.Itoa(int(k))
}

// Mode is how a verb is called.
type Mode uint8

const (
	Unary  Mode = 0 // one request, one answer
	Dialog Mode = 1 // a first value, streams both ways, a result
)

// Ref names an actor: ID is unique on this machine while it lives, Name is for people.
type Ref struct{ ID, Name string }

func (r Ref) String() string {
	if r.Name == "" {
		return r.ID
	}
	return r.Name + " (" + r.ID + ")"
}

// message is any message but HELLO and WELCOME; a kind uses the fields that
// belong to it. One struct, so that sending and receiving allocate none.
type message struct {
	kind    kind
	cid     uint64
	verb    string            // START
	mode    Mode              // START
	left    uint64            // START, milliseconds; CANCEL: the grace
	n       uint64            // START, STARTACK: window; CREDIT: bytes; CANCELACK: state; PING, PONG: number
	headers map[string]string // START
	payload []byte            // one encoded value: START, STARTED, YIELD, RETURN
	ours    bool              // payload is to be recycled when it was sent
	err     *RemoteError      // ERROR
	by      Ref               // CANCEL
	reason  string            // CANCEL
}

// append adds the message's body to b. The payload is taken as it is.
func (m *message) append(b []byte) []byte { return append(m.appendHead(b), m.payload...) }

// appendHead is append without the payload, which is the last element where there is one.
func (m *message) appendHead(b []byte) []byte {
	b = wire.AppendArrayHead(b, shapes[m.kind].n)
	b = wire.AppendUint(b, uint64(m.kind))
	switch m.kind {
	case exit:
		return b
	case ping, pong:
		return wire.AppendUint(b, m.n)
	}
	b = wire.AppendUint(b, m.cid)
	switch m.kind {
	case start:
		b = wire.AppendStr(b, m.verb)
		b = wire.AppendUint(b, uint64(m.mode))
		b = wire.AppendUint(b, m.left)
		b = wire.AppendUint(b, m.n)
		b = appendHeaders(b, m.headers)
	case startAck, credit, cancelAck:
		b = wire.AppendUint(b, m.n)
	case fail:
		b = m.err.append(b)
	case cancel:
		b = appendRef(b, m.by)
		b = wire.AppendStr(b, clip(m.reason, maxReason))
		b = wire.AppendUint(b, m.left)
	}
	return b
}

// decode reads a body that wire.Check has accepted. What m gets aliases body.
func (m *message) decode(body []byte) error {
	s := wire.NewScanner(body)
	n := s.Array()
	m.kind = kind(s.Uint(255))
	if s.Err() == nil && (m.kind < start || int(m.kind) >= len(shapes)) {
		s.Fail(fmt.Errorf("unexpected %v", m.kind))
	} else if s.Err() == nil && n != shapes[m.kind].n {
		s.Fail(fmt.Errorf("%d elements, want %d", n, shapes[m.kind].n))
	}
	if s.Err() == nil {
		m.fields(&s)
	}
	if err := s.Done(); err != nil {
		return violation("%v: %w", m.kind, err)
	}
	if m.payload != nil { // it is the last element; with the memory that lies behind it
		m.payload = body[len(body)-len(m.payload):]
	}
	return nil
}

func (m *message) fields(s *wire.Scanner) {
	switch m.kind {
	case exit:
		return
	case ping, pong:
		m.n = s.Uint(maxNumber)
		return
	}
	m.cid = s.Uint(maxNumber)
	switch m.kind {
	case start:
		m.verb = scanName(s, "verb")
		m.mode = Mode(s.Uint(uint64(Dialog)))
		m.left = s.Uint(maxNumber)
		m.n = s.Uint(maxNumber)
		if m.mode == Unary && m.n != 0 {
			s.Fail(errors.New("a window where there is no stream"))
		}
		m.headers = scanHeaders(s)
		m.payload = s.Raw()
	case started, yield, giveBack:
		m.payload = s.Raw()
	case startAck, credit:
		m.n = s.Uint(maxNumber)
	case cancelAck:
		m.n = s.Uint(1)
	case fail:
		m.err = scanError(s)
	case cancel:
		m.by = scanRef(s)
		m.reason = s.Str(maxReason)
		m.left = s.Uint(maxNumber)
	}
}

func appendRef(b []byte, r Ref) []byte {
	b = wire.AppendArrayHead(b, 2)
	return wire.AppendStr(wire.AppendStr(b, clip(r.ID, maxName)), clip(r.Name, maxName))
}

func scanRef(s *wire.Scanner) Ref {
	if s.Array() != 2 {
		s.Fail(errors.New("an actor is an array of two strings"))
		return Ref{}
	}
	return Ref{ID: s.Str(maxName), Name: s.Str(maxName)}
}

// scanName reads a verb or name that is not empty.
func scanName(s *wire.Scanner, what string) string {
	v := s.Str(maxName)
	if v == "" {
		s.Fail(fmt.Errorf("%s is empty", what))
	}
	return v
}

func appendHeaders(b []byte, h map[string]string) []byte {
	b = wire.AppendMapHead(b, len(h))
	if len(h) == 0 {
		return b
	}
	for _, k := range slices.Sorted(maps.Keys(h)) {
		b = wire.AppendStr(wire.AppendStr(b, k), h[k])
	}
	return b
}

func scanHeaders(s *wire.Scanner) map[string]string {
	n := s.Map()
	if n > maxHeaders {
		s.Fail(fmt.Errorf("%d headers, at most %d", n, maxHeaders))
	}
	if n == 0 || s.Err() != nil {
		return nil
	}
	h := make(map[string]string, n)
	for range n {
		k := s.Str(maxHeaderKey)
		h[k] = s.Str(maxHeaderVal)
	}
	return h
}
