package wire

import "encoding/binary"

// The Append functions add one value in one fixed form, whatever its size: 7
// as AppendUint64 is nine bytes. Callers keep to the ranges named here.

// AppendArray adds the head of an array of n elements, n <= 15.
func AppendArray(b []byte, n uint8) []byte { return append(b, 0x90|n&0x0f) }

// AppendFixint adds n <= 127 as one byte.
func AppendFixint(b []byte, n uint8) []byte { return append(b, n&0x7f) }

// AppendUint8 adds n as 0xcc and one byte.
func AppendUint8(b []byte, n uint8) []byte { return append(b, 0xcc, n) }

// AppendUint16 adds n as 0xcd and two bytes, big-endian.
func AppendUint16(b []byte, n uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, 0xcd), n)
}

// AppendUint32 adds n as 0xce and four bytes, big-endian.
func AppendUint32(b []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xce), n)
}

// AppendUint64 adds n as 0xcf and eight bytes, big-endian.
func AppendUint64(b []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xcf), n)
}

// AppendStr8 adds s as 0xd9, one length byte and the bytes; len(s) <= 255.
func AppendStr8(b []byte, s string) []byte { return append(append(b, 0xd9, byte(len(s))), s...) }

// AppendBin8 adds p as 0xc4, one length byte and the bytes; len(p) <= 255.
func AppendBin8(b, p []byte) []byte { return append(append(b, 0xc4, byte(len(p))), p...) }

// AppendBin32 adds p as 0xc6, a four-byte length and the bytes; len(p) < 4 GiB.
func AppendBin32(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(len(p))), p...)
}

// Reader takes a message of fixed layout apart, from front to back. The first
// mismatch sticks: later reads return zero values, and Done returns the reason.
type Reader struct {
	b   []byte
	err error
}

// NewReader reads from b, which it neither copies nor changes.
func NewReader(b []byte) Reader { return Reader{b: b} }

// take returns the next n bytes, or nil once anything was wrong.
func (r *Reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = ErrTruncated
	}
	if r.err != nil {
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

// head consumes one byte that must be c.
func (r *Reader) head(c byte) {
	if p := r.take(1); p != nil && p[0] != c {
		r.err = ErrForm
	}
}

// uint consumes c and an integer of n bytes.
func (r *Reader) uint(c byte, n int) (v uint64) {
	r.head(c)
	for _, b := range r.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// Array consumes the head of an array of exactly n elements, n <= 15.
func (r *Reader) Array(n uint8) { r.head(0x90 | n&0x0f) }

// Fixint consumes the one-byte integer n, n <= 127.
func (r *Reader) Fixint(n uint8) { r.head(n & 0x7f) }

// Uint8 consumes 0xcc and one byte.
func (r *Reader) Uint8() uint8 { return uint8(r.uint(0xcc, 1)) }

// Uint16 consumes 0xcd and two bytes.
func (r *Reader) Uint16() uint16 { return uint16(r.uint(0xcd, 2)) }

// Uint32 consumes 0xce and four bytes.
func (r *Reader) Uint32() uint32 { return uint32(r.uint(0xce, 4)) }

// Uint64 consumes 0xcf and eight bytes.
func (r *Reader) Uint64() uint64 { return r.uint(0xcf, 8) }

// Str8 consumes 0xd9, a length byte and a copy of that many bytes.
func (r *Reader) Str8() string { return string(r.take(int(r.uint(0xd9, 1)))) }

// Bin8 consumes 0xc4, the length byte len(dst) and fills dst; len(dst) <= 255.
func (r *Reader) Bin8(dst []byte) {
	r.head(0xc4)
	r.head(byte(len(dst)))
	copy(dst, r.take(len(dst)))
}

// Bin32 consumes 0xc6, a four-byte length and that many bytes, which it
// returns without copying: they belong to the Reader's input.
func (r *Reader) Bin32() []byte {
	n := r.uint(0xc6, 4)
	if r.err == nil && n > uint64(len(r.b)) {
		r.err = ErrLength
	}
	return r.take(int(n))
}

// Fail makes err the reason, unless there is one: for values that the caller
// read and will not have.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Done returns the first mismatch, or ErrTrailing when bytes are left.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = ErrTrailing
	}
	return r.err
}
