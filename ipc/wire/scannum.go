package wire

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"
)

// integer consumes an integer and returns its two's complement; neg says how
// to read it.
func (s *Scanner) integer() (u uint64, neg, ok bool) {
	if s.err == nil && s.pos < len(s.b) {
		if c := s.b[s.pos]; c < 0x80 {
			s.pos++
			return uint64(c), false, true
		}
	}
	body, n, ok := s.next(KindInt)
	if !ok {
		return 0, false, false
	}
	c := s.b[body-1]
	var v int64
	switch n {
	case 0:
		v = int64(int8(c))
	case 1:
		v = int64(int8(s.b[body]))
	case 2:
		v = int64(int16(binary.BigEndian.Uint16(s.b[body:])))
	case 4:
		v = int64(int32(binary.BigEndian.Uint32(s.b[body:])))
	case 8:
		v = int64(binary.BigEndian.Uint64(s.b[body:]))
	}
	s.pos = body + n
	if c < 0xd0 { // unsigned: what the sign was extended to is none of it
		return uint64(v) << (64 - 8*n) >> (64 - 8*n), false, true
	}
	return uint64(v), v < 0, true
}

// Uint consumes an integer from 0 to limit.
func (s *Scanner) Uint(limit uint64) uint64 {
	u, neg, ok := s.integer()
	if ok && (neg || u > limit) {
		s.err = ErrRange
	}
	if s.err != nil {
		return 0
	}
	return u
}

// Int consumes an integer that an int64 holds.
func (s *Scanner) Int() int64 {
	u, neg, ok := s.integer()
	if ok && !neg && u > math.MaxInt64 {
		s.err = ErrRange
	}
	if s.err != nil {
		return 0
	}
	return int64(u)
}

// Float consumes a number: a float, or an integer that a float64 holds exactly.
func (s *Scanner) Float() float64 {
	if s.Peek() == KindInt {
		u, neg, ok := s.integer()
		size := u
		if neg {
			size = -u
		}
		switch {
		case ok && bits.Len64(size)-bits.TrailingZeros64(size) > 53:
			s.err = ErrRange
			return 0
		case neg:
			return float64(int64(u))
		}
		return float64(u)
	}
	body, n, ok := s.next(KindFloat)
	if !ok {
		return 0
	}
	s.pos = body + n
	if n == 4 {
		return float64(math.Float32frombits(binary.BigEndian.Uint32(s.b[body:])))
	}
	return math.Float64frombits(binary.BigEndian.Uint64(s.b[body:]))
}

// The seconds that a timestamp may have: the years 1 to 9999, which every
// notation has and time.Time compares without overflow.
const (
	MinTime = -62135596800 // 0001-01-01T00:00:00Z, the zero time.Time
	MaxTime = 253402300799 // 9999-12-31T23:59:59Z
)

// Time consumes a timestamp of the years 1 to 9999 and returns it in UTC.
func (s *Scanner) Time() time.Time {
	body, n, ok := s.next(KindTime)
	if !ok {
		return time.Time{}
	}
	s.pos = body + n
	var sec int64
	var nsec uint32
	switch p := s.b[body:]; n {
	case 4:
		sec = int64(binary.BigEndian.Uint32(p))
	case 8:
		v := binary.BigEndian.Uint64(p)
		sec, nsec = int64(v&(1<<34-1)), uint32(v>>34)
	case 12:
		sec, nsec = int64(binary.BigEndian.Uint64(p[4:])), binary.BigEndian.Uint32(p)
	}
	if nsec > 999_999_999 || sec < MinTime || sec > MaxTime {
		s.err = ErrRange
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}
