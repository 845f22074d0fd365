package codec

import (
	"fmt"
	"math"
	"strconv"

	"sandboxd/ipc/wire"
)

func mismatch(at wire.Scanner, p *plan) *TypeError {
	return &TypeError{Got: describe(at), Want: p.name}
}

// describe says what the next value is: small ones in full, others by their
// size, so that what is printed of a hostile value is short.
func describe(s wire.Scanner) string {
	switch k := s.Peek(); k {
	case wire.KindBool:
		return strconv.FormatBool(s.Bool())
	case wire.KindInt:
		at := s
		if n := s.Int(); s.Err() == nil {
			return strconv.FormatInt(n, 10)
		}
		return strconv.FormatUint(at.Uint(math.MaxUint64), 10)
	case wire.KindFloat:
		return "float " + strconv.FormatFloat(s.Float(), 'g', -1, 64)
	case wire.KindStr:
		if b := s.StrBytes(math.MaxInt); s.Err() == nil {
			return fmt.Sprintf("str of %d bytes", len(b))
		}
		return "str that is not UTF-8"
	case wire.KindBin:
		return fmt.Sprintf("bin of %d bytes", len(s.Bytes(math.MaxInt)))
	case wire.KindArray:
		return fmt.Sprintf("array of %d", s.Array())
	case wire.KindMap:
		return fmt.Sprintf("map of %d", s.Map())
	case wire.KindTime:
		if s.Time(); s.Err() != nil {
			return "timestamp outside the years 1 to 9999"
		}
		return k.String()
	default:
		return k.String()
	}
}

// label is the next value, a key, as it is in a path.
func label(s wire.Scanner) string {
	if s.Peek() == wire.KindStr {
		return quote(string(s.StrBytes(math.MaxInt)))
	}
	return describe(s)
}
