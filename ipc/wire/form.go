package wire

import (
	"encoding/binary"
	"strconv"
)

// Kind is what a value is, whichever of its forms it has.
type Kind uint8

// The kinds. KindNone is where no value begins: at the end, or at a byte that
// msgpack does not use.
const (
	KindNone Kind = iota
	KindNil
	KindBool
	KindInt
	KindFloat
	KindStr
	KindBin
	KindArray
	KindMap
	KindTime // the timestamp, or any other extension, which no function here accepts
)

var kindNames = [...]string{"none", "nil", "bool", "int", "float", "str", "bin", "array", "map", "timestamp"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// form says what follows a first byte.
type form struct {
	kind   Kind
	length uint8 // bytes of a length or count, big-endian
	body   uint8 // bytes of a body whose length is fixed
}

// forms has those of 0xc0 to 0xdf. 0xc1 is never used.
var forms = [256]form{
	0xc0: {KindNil, 0, 0}, 0xc2: {KindBool, 0, 0}, 0xc3: {KindBool, 0, 0},
	0xc4: {KindBin, 1, 0}, 0xc5: {KindBin, 2, 0}, 0xc6: {KindBin, 4, 0},
	0xc7: {KindTime, 1, 0}, 0xc8: {KindTime, 2, 0}, 0xc9: {KindTime, 4, 0},
	0xca: {KindFloat, 0, 4}, 0xcb: {KindFloat, 0, 8},
	0xcc: {KindInt, 0, 1}, 0xcd: {KindInt, 0, 2}, 0xce: {KindInt, 0, 4}, 0xcf: {KindInt, 0, 8}, // unsigned
	0xd0: {KindInt, 0, 1}, 0xd1: {KindInt, 0, 2}, 0xd2: {KindInt, 0, 4}, 0xd3: {KindInt, 0, 8}, // signed
	0xd4: {KindTime, 0, 1}, 0xd5: {KindTime, 0, 2}, 0xd6: {KindTime, 0, 4}, 0xd7: {KindTime, 0, 8}, 0xd8: {KindTime, 0, 16},
	0xd9: {KindStr, 1, 0}, 0xda: {KindStr, 2, 0}, 0xdb: {KindStr, 4, 0},
	0xdc: {KindArray, 2, 0}, 0xdd: {KindArray, 4, 0},
	0xde: {KindMap, 2, 0}, 0xdf: {KindMap, 4, 0},
}

// kindOf is the kind of a value that begins with c.
func kindOf(c byte) Kind {
	switch {
	case c < 0x80 || c >= 0xe0:
		return KindInt
	case c < 0x90:
		return KindMap
	case c < 0xa0:
		return KindArray
	case c < 0xc0:
		return KindStr
	}
	return forms[c].kind
}

// head takes apart the first bytes of the value at b[pos:]. What follows them
// begins at body and has n bytes; n counts elements of an array and pairs of a
// map. Whatever n says is there, as far as the number of bytes left can tell.
func head(b []byte, pos int) (k Kind, body, n int, err error) {
	if pos >= len(b) {
		return KindNone, pos, 0, ErrTruncated
	}
	c := b[pos]
	pos++
	switch {
	case c < 0x80 || c >= 0xe0:
		return KindInt, pos, 0, nil
	case c < 0x90:
		k, n = KindMap, int(c&0x0f)
	case c < 0xa0:
		k, n = KindArray, int(c&0x0f)
	case c < 0xc0:
		k, n = KindStr, int(c&0x1f)
	default:
		return longHead(b, pos, forms[c])
	}
	need := n
	if k == KindMap {
		need += n
	}
	if need > len(b)-pos {
		return k, pos, 0, ErrLength
	}
	return k, pos, n, nil
}

// longHead is head for the forms with a table entry, behind their first byte.
func longHead(b []byte, pos int, f form) (k Kind, body, n int, err error) {
	if f.kind == KindNone {
		return KindNone, pos, 0, ErrForm
	}
	left := len(b) - pos
	if f.length == 0 && f.kind != KindTime {
		if int(f.body) > left {
			return f.kind, pos, 0, ErrTruncated
		}
		return f.kind, pos, int(f.body), nil
	}
	if int(f.length) > left {
		return f.kind, pos, 0, ErrTruncated
	}
	size := uint64(f.body)
	switch f.length {
	case 1:
		size = uint64(b[pos])
	case 2:
		size = uint64(binary.BigEndian.Uint16(b[pos:]))
	case 4:
		size = uint64(binary.BigEndian.Uint32(b[pos:]))
	}
	pos, left = pos+int(f.length), left-int(f.length)
	need := size
	switch f.kind {
	case KindMap:
		need = 2 * size
	case KindTime:
		need = size + 1
	}
	if need > uint64(left) {
		return f.kind, pos, 0, ErrLength
	}
	if f.kind == KindTime {
		if b[pos] != timestamp || size != 4 && size != 8 && size != 12 {
			return f.kind, pos, 0, ErrForm
		}
		pos++
	}
	return f.kind, pos, int(size), nil
}

// timestamp is the extension type -1.
const timestamp = 0xff
