package hosttest

import (
	"os"
	"strconv"
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
