package hosttest

import (
	"os"
	"testing"
)

// NeedRoot skips a test that only root can do. It is no [Lack]: who runs the
// tests is not the host's doing, and an ordinary user's are worth running too.
func NeedRoot(t testing.TB) {
	t.Helper()
	if uid := os.Geteuid(); uid != 0 {
		t.Skipf("does not apply: root's alone, and the tests run as uid %d", uid)
	}
}
