package hosttest

import (
	"os"
	"path/filepath"
	"testing"
)

// Runsc is the path of gVisor's runsc: what SANDBOXD_RUNSC says, or what
// `make bin/runsc` has built, which takes minutes the first time.
func Runsc(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("SANDBOXD_RUNSC"); name != "" {
		return name
	}
	name := filepath.Join(repository(), "bin", "runsc")
	if _, err := os.Stat(name); err != nil {
		Lack(t, "runsc: %v (make bin/runsc)", err)
	}
	return name
}
