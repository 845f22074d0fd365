package wire

import "errors"

// What Check and Reader refuse. They are returned bare, so that refusing a
// hostile frame costs no allocation; the caller names the connection.
var (
	// ErrTruncated: the bytes end inside a value (an empty input too).
	ErrTruncated = errors.New("wire: bytes end inside a value")
	// ErrTrailing: there are bytes after the one value.
	ErrTrailing = errors.New("wire: bytes follow the value")
	// ErrLength: a declared length or count is larger than the bytes left.
	ErrLength = errors.New("wire: declared length exceeds the bytes left")
	// ErrDepth: containers nest deeper than Limits.Depth.
	ErrDepth = errors.New("wire: containers nest too deep")
	// ErrItems: there are more values than Limits.Items.
	ErrItems = errors.New("wire: too many items")
	// ErrKey: a map key is not a string.
	ErrKey = errors.New("wire: map key is not a string")
	// ErrExt: an extension type (timestamps are one); no message uses them.
	ErrExt = errors.New("wire: extension types are not accepted")
	// ErrReserved: the byte 0xc1, which msgpack never uses.
	ErrReserved = errors.New("wire: reserved byte 0xc1")
	// ErrForm: valid msgpack, perhaps, but not the one layout a fixed message has.
	ErrForm = errors.New("wire: value does not have the fixed layout")
)
