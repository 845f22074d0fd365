package session

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"sandboxd/ipc/wire"
)

// clip makes text of what a peer would refuse as too long, or as no text, and
// end the session for: most bytes of UTF-8.
func clip(v string, most int) string {
	v = strings.ToValidUTF8(v, "\uFFFD")
	if len(v) <= most {
		return v
	}
	for most > 0 && v[most]&0xc0 == 0x80 {
		most--
	}
	return v[:most]
}

// large tells whether the payload is worth sending from where it is.
func (m *message) large() bool { return len(m.payload) >= byPart }

// frame adds the message's frame to b, but for a payload that is large; or fails and leaves b as it was.
func (m *message) frame(b []byte, most int) ([]byte, error) {
	at := len(b)
	b = m.appendHead(append(b, 0, 0, 0, 0))
	n := len(b) - at - 4 + len(m.payload)
	if n > most {
		return b[:at], tooLarge(n, most)
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(n))
	if m.large() {
		return b, nil
	}
	return append(b, m.payload...), nil
}

func tooLarge(n, most int) error {
	return fmt.Errorf("%w: %d bytes more than the %d that it may have", ErrTooLarge, n-most, most)
}

// frame adds the frame of a body that f adds to b, or fails and leaves b as it was.
func frame(b []byte, most int, f func([]byte) []byte) ([]byte, error) {
	at := len(b)
	b = f(append(b, 0, 0, 0, 0))
	n := len(b) - at - 4
	if n > most {
		return b[:at], tooLarge(n, most)
	}
	binary.LittleEndian.PutUint32(b[at:], uint32(n))
	return b, nil
}

// sound says what is wrong with a message that the other side would refuse, and
// end the session for. A payload that is not there becomes nil.
func (m *message) sound() error {
	if len(m.payload) == 0 {
		m.payload = []byte{0xc0}
	}
	others := shapes[m.kind].n + 2*len(m.headers) // values of the frame beside the payload's
	if err := wire.Check(m.payload, wire.Limits{Depth: wire.DefaultDepth - 1, Items: wire.DefaultItems - others}); err != nil {
		return fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	if len(m.headers) > maxHeaders {
		return fmt.Errorf("%w: %d headers, at most %d", ErrTooLarge, len(m.headers), maxHeaders)
	}
	for k, v := range m.headers {
		if len(k) > maxHeaderKey || len(v) > maxHeaderVal || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return fmt.Errorf("%w: header %.80q: want text, at most %d bytes with at most %d", ErrTooLarge, k, maxHeaderKey, maxHeaderVal)
		}
	}
	return nil
}
