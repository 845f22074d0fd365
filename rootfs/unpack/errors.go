package unpack

import (
	"errors"
	"fmt"
	"strconv"
)

// What can be wrong with an archive; found with errors.Is.
var (
	ErrEscape      = errors.New("name leads out of the root")
	ErrName        = errors.New("unusable name")
	ErrTooLarge    = errors.New("too large")
	ErrTooMany     = errors.New("too many entries")
	ErrParent      = errors.New("parent is not a directory")
	ErrConflict    = errors.New("directory in the way is not empty")
	ErrLink        = errors.New("hard link leads to no file")
	ErrUnsupported = errors.New("unsupported")
	ErrFormat      = errors.New("malformed archive")
	ErrTruncated   = errors.New("archive ends early")
)

// EntryError tells where in the archive unpacking stopped, and why.
type EntryError struct {
	Name  string // quoted, ASCII, shortened: fit for a log; "" if there is no entry yet
	Index int    // position in the archive, from 0
	Err   error
}

func (e *EntryError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("unpack: at entry %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("unpack: entry %d %s: %v", e.Index, e.Name, e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }

// quote makes a hostile name fit for a log or a terminal.
func quote(name string) string {
	const most = 120
	if len(name) > most {
		return strconv.QuoteToASCII(name[:most]) + "..."
	}
	return strconv.QuoteToASCII(name)
}
