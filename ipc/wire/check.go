// Package wire judges and builds msgpack bytes without a msgpack library.
//
// Check walks a frame from an untrusted peer once, before any decoder sees it:
//
//	if err := wire.Check(body, wire.Limits{}); err != nil {
//		return err // hang up; nothing was allocated
//	}
//
// Reader and the Append functions are the primitives of messages whose byte
// layout is fixed (the handshake), so that a peer in C needs no parser.
//
// Non-goals: decoding values, UTF-8 validation, duplicate map keys, extension
// types. Format: https://github.com/msgpack/msgpack/blob/master/spec.md
package wire

import "encoding/binary"

const (
	// DefaultDepth is how deep containers may nest where Limits.Depth is 0.
	DefaultDepth = 16
	// MaxDepth is the deepest nesting Check accepts whatever Limits say.
	MaxDepth = 32
	// DefaultItems is the number of values where Limits.Items is 0.
	DefaultItems = 1 << 16
)

// Limits bound what Check accepts. The zero value is the safe default.
type Limits struct {
	Depth int // containers inside each other; 0 means DefaultDepth, at most MaxDepth; an empty container counts
	Items int // values in all, containers and map keys included; 0 means DefaultItems
}

type kind uint8

const (
	scalar   kind = iota // n payload bytes
	text                 // str, n payload bytes
	array                // n children
	mapping              // n pairs of children
	ext                  // refused
	reserved             // refused
)

// heads describes the first bytes 0xc0 to 0xdf; the others are "fix" forms.
var heads = [32]struct {
	kind kind
	n    uint8 // payload bytes of fixed size
	wide uint8 // bytes of the big-endian length that follows
}{
	0x00: {kind: scalar}, 0x01: {kind: reserved}, 0x02: {kind: scalar}, 0x03: {kind: scalar},
	0x04: {kind: scalar, wide: 1}, 0x05: {kind: scalar, wide: 2}, 0x06: {kind: scalar, wide: 4}, // bin
	0x07: {kind: ext}, 0x08: {kind: ext}, 0x09: {kind: ext},
	0x0a: {kind: scalar, n: 4}, 0x0b: {kind: scalar, n: 8}, // float
	0x0c: {kind: scalar, n: 1}, 0x0d: {kind: scalar, n: 2}, 0x0e: {kind: scalar, n: 4}, 0x0f: {kind: scalar, n: 8}, // uint
	0x10: {kind: scalar, n: 1}, 0x11: {kind: scalar, n: 2}, 0x12: {kind: scalar, n: 4}, 0x13: {kind: scalar, n: 8}, // int
	0x14: {kind: ext}, 0x15: {kind: ext}, 0x16: {kind: ext}, 0x17: {kind: ext}, 0x18: {kind: ext},
	0x19: {kind: text, wide: 1}, 0x1a: {kind: text, wide: 2}, 0x1b: {kind: text, wide: 4},
	0x1c: {kind: array, wide: 2}, 0x1d: {kind: array, wide: 4},
	0x1e: {kind: mapping, wide: 2}, 0x1f: {kind: mapping, wide: 4},
}

// Check reports whether b is exactly one msgpack value within lim, or the
// first reason why not: one of this package's errors. It neither recurses nor
// allocates, and reads each byte of structure once. What it accepts a decoder
// can take apart in memory proportional to len(b): counts cannot lie.
func Check(b []byte, lim Limits) error {
	if lim.Depth == 0 {
		lim.Depth = DefaultDepth
	}
	if lim.Items == 0 {
		lim.Items = DefaultItems
	}
	var (
		left  [MaxDepth + 1]uint32 // children still to come, per level
		maps  uint64               // bit l: level l is a map; its next child is a key when left[l] is even
		level int                  // 0 is outside every container
		items = lim.Items
		depth = min(lim.Depth, MaxDepth)
		i     int
	)
	for {
		if i >= len(b) {
			return ErrTruncated
		}
		if items--; items < 0 {
			return ErrItems
		}
		c := b[i]
		i++
		k, n := scalar, uint64(0)
		switch {
		case c <= 0x7f || c >= 0xe0: // fixint
		case c <= 0x8f:
			k, n = mapping, uint64(c&0x0f)
		case c <= 0x9f:
			k, n = array, uint64(c&0x0f)
		case c <= 0xbf:
			k, n = text, uint64(c&0x1f)
		default:
			h := &heads[c-0xc0]
			if h.kind == ext {
				return ErrExt
			}
			if h.kind == reserved {
				return ErrReserved
			}
			if len(b)-i < int(h.wide)+int(h.n) {
				return ErrTruncated
			}
			k, n = h.kind, uint64(h.n)
			switch h.wide {
			case 1:
				n = uint64(b[i])
			case 2:
				n = uint64(binary.BigEndian.Uint16(b[i:]))
			case 4:
				n = uint64(binary.BigEndian.Uint32(b[i:]))
			}
			i += int(h.wide)
		}
		if level > 0 {
			if k != text && maps>>level&1 == 1 && left[level]&1 == 0 {
				return ErrKey
			}
			left[level]--
		}
		if k == mapping {
			n *= 2
		}
		if n > uint64(len(b)-i) { // every child is a byte at least
			return ErrLength
		}
		if k < array {
			i += int(n)
		} else {
			if level >= depth {
				return ErrDepth
			}
			level++
			left[level] = uint32(n)
			maps &^= 1 << level
			if k == mapping {
				maps |= 1 << level
			}
		}
		for level > 0 && left[level] == 0 {
			level--
		}
		if level == 0 {
			break
		}
	}
	if i != len(b) {
		return ErrTrailing
	}
	return nil
}
