package wire

import (
	"encoding/binary"
	"math"
	"time"
)

// These Append functions add one value in the shortest form that msgpack has
// for it. Lengths and counts are less than 1<<32.

// AppendNil adds nil.
func AppendNil(b []byte) []byte { return append(b, 0xc0) }

// AppendBool adds true or false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// AppendUint adds n in one, two, three, five or nine bytes.
func AppendUint(b []byte, n uint64) []byte {
	switch {
	case n < 0x80:
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		return append(b, 0xcd, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), n)
}

// AppendInt adds n as AppendUint does, or a negative n in a signed form.
func AppendInt(b []byte, n int64) []byte {
	switch {
	case n >= 0:
		return AppendUint(b, uint64(n))
	case n >= -32:
		return append(b, byte(n))
	case n >= math.MinInt8:
		return append(b, 0xd0, byte(n))
	case n >= math.MinInt16:
		return append(b, 0xd1, byte(n>>8), byte(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

// AppendFloat32 adds f in five bytes.
func AppendFloat32(b []byte, f float32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xca), math.Float32bits(f))
}

// AppendFloat64 adds f in nine bytes, even where four would hold it: receivers
// tell the two apart.
func AppendFloat64(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(f))
}

// appendLength adds the head of a str, bin, array or map: fix for lengths below
// limit, or else one of the three codes that begin at code.
func appendLength(b []byte, n int, fix byte, limit int, code byte, oneByte bool) []byte {
	switch {
	case n < limit:
		return append(b, fix|byte(n))
	case oneByte && n <= math.MaxUint8:
		return append(b, code, byte(n))
	case n <= math.MaxUint16:
		return append(b, code+1, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, code+2), uint32(n))
}

// AppendStr adds s, which the caller knows to be UTF-8, as a str.
func AppendStr(b []byte, s string) []byte {
	return append(appendLength(b, len(s), 0xa0, 32, 0xd9, true), s...)
}

// AppendBytes adds p as a bin.
func AppendBytes(b, p []byte) []byte {
	return append(appendLength(b, len(p), 0, 0, 0xc4, true), p...)
}

// AppendArrayHead adds the head of an array; n values must follow.
func AppendArrayHead(b []byte, n int) []byte {
	return appendLength(b, n, 0x90, 16, 0xdb, false)
}

// AppendMapHead adds the head of a map; n keys, each with its value, must follow.
func AppendMapHead(b []byte, n int) []byte {
	return appendLength(b, n, 0x80, 16, 0xdd, false)
}

// AppendTime adds t as a timestamp of 4, 8 or 12 bytes, of nanosecond precision
// and without its location. A Scanner reads the years 1 to 9999.
func AppendTime(b []byte, t time.Time) []byte {
	sec, nsec := t.Unix(), uint64(t.Nanosecond())
	switch {
	case sec < 0 || sec >= 1<<34:
		b = binary.BigEndian.AppendUint32(append(b, 0xc7, 12, timestamp), uint32(nsec))
		return binary.BigEndian.AppendUint64(b, uint64(sec))
	case nsec > 0 || sec > math.MaxUint32:
		return binary.BigEndian.AppendUint64(append(b, 0xd7, timestamp), nsec<<34|uint64(sec))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xd6, timestamp), uint32(sec))
}
