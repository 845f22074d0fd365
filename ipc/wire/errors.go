package wire

import "errors"

// What a Reader refuses. They are returned bare, so that refusing a hostile
// frame costs no allocation; the caller names the message.
var (
	// ErrTruncated: the bytes end inside a value (an empty input too).
	ErrTruncated = errors.New("wire: bytes end inside a value")
	// ErrTrailing: there are bytes after the one value.
	ErrTrailing = errors.New("wire: bytes follow the value")
	// ErrLength: a declared length is larger than the bytes left.
	ErrLength = errors.New("wire: declared length exceeds the bytes left")
	// ErrForm: valid msgpack, perhaps, but not the one layout a fixed message has.
	ErrForm = errors.New("wire: value does not have the fixed layout")
)
