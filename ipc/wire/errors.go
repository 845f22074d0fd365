package wire

import (
	"errors"
	"strconv"
)

// What is refused. A Reader and a Scanner return them bare, so that refusing a
// hostile frame costs no allocation; the caller names the message. Check wraps
// them in an OffsetError.
var (
	// ErrTruncated: the bytes end inside a value (an empty input too).
	ErrTruncated = errors.New("wire: bytes end inside a value")
	// ErrTrailing: there are bytes after the one value.
	ErrTrailing = errors.New("wire: bytes follow the value")
	// ErrLength: a declared length is larger than the bytes left.
	ErrLength = errors.New("wire: declared length exceeds the bytes left")
	// ErrForm: valid msgpack, perhaps, but not what belongs here: another kind
	// of value, text that is not UTF-8, or not the fixed layout of a message.
	ErrForm = errors.New("wire: value does not have the form expected")
	// ErrRange: a value of the right kind is larger, smaller or longer than
	// the caller takes.
	ErrRange = errors.New("wire: value is out of range")
	// ErrDepth: more arrays and maps within each other than Limits.Depth.
	ErrDepth = errors.New("wire: arrays and maps nest too deeply")
	// ErrItems: more values than Limits.Items.
	ErrItems = errors.New("wire: too many values")
)

// OffsetError says where Check stopped.
type OffsetError struct {
	Offset int // of the first byte of the value refused, or of what follows it
	Err    error
}

func (e *OffsetError) Error() string { return e.Err.Error() + ", at byte " + strconv.Itoa(e.Offset) }

// Unwrap returns one of the errors above.
func (e *OffsetError) Unwrap() error { return e.Err }
