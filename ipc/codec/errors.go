package codec

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrType is wrapped by every *TypeError.
var ErrType = errors.New("value does not fit the type")

// TypeError says that a value does not fit where it belongs. What is not
// msgpack at all, or beyond the limits, is an error of package wire instead.
type TypeError struct {
	Path string // from the outermost value, as ".jobs[3].width"; empty is that value itself
	Want string // the Go type, or the bound that was crossed
	Got  string // the value, abridged

	err error // what a text method or package wire said
}

func (e *TypeError) Error() string {
	text := "codec: "
	if e.Path != "" {
		text += e.Path + ": "
	}
	text += e.Got + " does not fit " + e.Want
	if e.err != nil {
		text += ": " + strings.Map(printable, abridge(e.err.Error(), 200))
	}
	return text
}

// Unwrap returns ErrType, and the reason that a text method gave.
func (e *TypeError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrType}
	}
	return []error{ErrType, e.err}
}

// in returns e, if there is one, as it looks from outside: below the field or
// element that step names.
func (e *TypeError) in(step string) *TypeError {
	if e != nil {
		e.Path = step + e.Path
	}
	return e
}

// at is in for an element of a slice or array.
func (e *TypeError) at(i int) *TypeError {
	if e != nil {
		e.Path = "[" + strconv.Itoa(i) + "]" + e.Path
	}
	return e
}

// printable keeps what a text method repeats of its input on one line.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// quoteMax bounds what a peer can make us print of one string.
const quoteMax = 40

func quote(s string) string { return strconv.Quote(abridge(s, quoteMax)) }

// abridge cuts s to about limit bytes, between runes.
func abridge(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
