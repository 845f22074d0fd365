package wire

import "math"

// What Limits that are zero mean, and how deep they may be at most.
const (
	DefaultDepth = 32
	DefaultItems = 1 << 16
	MaxDepth     = 64
)

// Limits bound the structure of a value; its size in bytes is the frame's to
// bound.
type Limits struct {
	// Depth is how many arrays and maps may lie within each other, empty ones
	// included. Zero is DefaultDepth; more than MaxDepth is MaxDepth.
	Depth int
	// Items is how many values there may be, each element, key and container
	// counted. Zero is DefaultItems.
	Items int
}

// Check says whether b is one msgpack value that is safe to take apart: no
// bytes are missing and none follow, every length and count fits the bytes
// left, limits are kept, and there is no extension but the timestamp. It is
// iterative and allocates nothing but the *OffsetError that it refuses with,
// one of ErrTruncated, ErrTrailing, ErrForm, ErrLength, ErrDepth and ErrItems.
//
// Whether a str is UTF-8 and a timestamp in range is left to the Scanner, which
// looks at those that are read.
func Check(b []byte, l Limits) error {
	if l.Depth == 0 {
		l.Depth = DefaultDepth
	}
	if l.Items == 0 {
		l.Items = DefaultItems
	}
	end, err := walk(b, 0, l)
	if err == nil && end < len(b) {
		err = ErrTrailing
	}
	if err != nil {
		return &OffsetError{Offset: end, Err: err}
	}
	return nil
}

// walk returns where the value at b[pos:] ends, or where the value begins that
// it refuses.
func walk(b []byte, pos int, l Limits) (end int, err error) {
	depth, items := min(l.Depth, MaxDepth), min(l.Items, math.MaxUint32)
	if items--; items < 0 {
		return pos, ErrItems
	}
	var outer [MaxDepth]uint32 // values left in the containers around
	level, left := 0, 1        // containers around; values left in the innermost
	for {
		if pos >= len(b) {
			return pos, ErrTruncated
		}
		left--
		body := pos + 1
		switch c := b[pos]; { // the short forms are most of them
		case c < 0x80 || c >= 0xe0:
		case c >= 0xa0 && c < 0xc0:
			if body += int(c & 0x1f); body > len(b) {
				return pos, ErrLength
			}
		case c >= 0xca && c < 0xd4: // numbers
			if body += int(forms[c].body); body > len(b) {
				return pos, ErrTruncated
			}
		default:
			k, at, n, err := head(b, pos)
			if err != nil {
				return pos, err
			}
			body = at + n
			if k == KindArray || k == KindMap {
				if level >= depth {
					return pos, ErrDepth
				}
				if k == KindMap {
					n *= 2
				}
				if items -= n; items < 0 {
					return pos, ErrItems
				}
				outer[level] = uint32(left)
				level++
				body, left = at, n
			}
		}
		pos = body
		for left == 0 {
			if level == 0 {
				return pos, nil
			}
			level--
			left = int(outer[level])
		}
	}
}
