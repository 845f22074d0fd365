package hosttest

import (
	"os"
	"testing"
)

// NotInGuest skips a test of what is built rather than of a kernel in the guests
// of `make vm`, whose root has no tools for that.
func NotInGuest(t testing.TB, tool string) {
	t.Helper()
	if os.Getenv("SANDBOXD_GUEST") == "1" {
		t.Skipf("does not apply: a guest has not %s; the host runs this", tool)
	}
}
