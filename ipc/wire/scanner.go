package wire

import (
	"math"
	"unicode/utf8"
)

// Scanner takes one value apart, from front to back, in any form that msgpack
// has for it. The first mismatch sticks: later reads return zero values, and
// Err and Done return the reason. A copy of a Scanner reads on by itself.
//
// It is made for bytes that Check accepted. On others it is as safe, but may
// find out late, and a caller that follows their nesting may recurse as deep as
// they say.
type Scanner struct {
	b   []byte
	pos int
	err error
}

// NewScanner reads from b, which it neither copies nor changes.
func NewScanner(b []byte) Scanner { return Scanner{b: b} }

// Peek returns the kind of the next value, KindNone after a mismatch.
func (s *Scanner) Peek() Kind {
	if s.err != nil || s.pos >= len(s.b) {
		return KindNone
	}
	return kindOf(s.b[s.pos])
}

// next consumes the head of a value of kind want: the place of its body, and
// n as of head. After a mismatch ok is false.
func (s *Scanner) next(want Kind) (body, n int, ok bool) {
	if s.err != nil {
		return 0, 0, false
	}
	if s.pos < len(s.b) && kindOf(s.b[s.pos]) != want {
		s.err = ErrForm
		return 0, 0, false
	}
	_, body, n, err := head(s.b, s.pos)
	if err != nil {
		s.err = err
		return 0, 0, false
	}
	s.pos = body
	return body, n, true
}

// Nil consumes nil if it is next, and says so; any other value is left.
func (s *Scanner) Nil() bool {
	if s.Peek() != KindNil {
		return false
	}
	s.pos++
	return true
}

// Bool consumes true or false.
func (s *Scanner) Bool() bool {
	body, _, ok := s.next(KindBool)
	return ok && s.b[body-1] == 0xc3
}

// Array consumes the head of an array and returns how many elements follow.
func (s *Scanner) Array() int {
	_, n, _ := s.next(KindArray)
	return n
}

// Map consumes the head of a map and returns how many pairs follow, each a key
// and its value.
func (s *Scanner) Map() int {
	_, n, _ := s.next(KindMap)
	return n
}

// span consumes a value of kind k with a body of at most limit bytes.
func (s *Scanner) span(k Kind, limit int) []byte {
	body, n, ok := s.next(k)
	if !ok {
		return nil
	}
	if n > limit {
		s.err = ErrRange
		return nil
	}
	s.pos = body + n
	return s.b[body:s.pos:s.pos]
}

// Bytes consumes a bin of at most limit bytes. They belong to the input.
func (s *Scanner) Bytes(limit int) []byte { return s.span(KindBin, limit) }

// StrBytes is Str without the copy: the bytes belong to the input.
func (s *Scanner) StrBytes(limit int) []byte {
	p := s.span(KindStr, limit)
	if !utf8.Valid(p) {
		s.err = ErrForm
		return nil
	}
	return p
}

// Str consumes a str of at most limit bytes, which must be UTF-8.
func (s *Scanner) Str(limit int) string { return string(s.StrBytes(limit)) }

// Raw consumes one value, whatever it is, and returns its bytes, which belong
// to the input.
func (s *Scanner) Raw() []byte {
	if s.err != nil {
		return nil
	}
	start := s.pos
	end, err := walk(s.b, start, Limits{Depth: MaxDepth, Items: math.MaxInt})
	if err != nil {
		s.err = err
		return nil
	}
	s.pos = end
	return s.b[start:end:end]
}

// Fail makes err the reason, unless there is one: for values that the caller
// read and will not have.
func (s *Scanner) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Err returns the first mismatch.
func (s *Scanner) Err() error { return s.err }

// Done returns the first mismatch, or ErrTrailing when bytes are left.
func (s *Scanner) Done() error {
	if s.err == nil && s.pos < len(s.b) {
		s.err = ErrTrailing
	}
	return s.err
}
