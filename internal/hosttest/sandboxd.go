package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Sandboxd is the path of sandboxd, built statically from what is there into
// dir: what the backend microvm is made of.
func Sandboxd(t testing.TB, dir string) string {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	name := filepath.Join(dir, "sandboxd")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", name, "./cmd/sandboxd")
	cmd.Dir, cmd.Env = filepath.Dir(filepath.Dir(filepath.Dir(self))), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return name
}
