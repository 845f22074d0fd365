package hosttest

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"
)

// Patience is a number of seconds of a usual machine, of which this one is
// slower by SANDBOXD_SLOW. For limits that turn a hang into a failure, never
// for what is asserted.
func Patience(seconds int) time.Duration {
	if slow, err := strconv.Atoi(os.Getenv("SANDBOXD_SLOW")); err == nil && slow > 1 {
		seconds *= slow
	}
	return time.Duration(seconds) * time.Second
}

// Bounded is a context that turns a hang into a failure. It ends with the test.
func Bounded(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
