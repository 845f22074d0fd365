package hosttest

import (
	"path/filepath"
	"testing"
)

// Sandboxd is the path of sandboxd, built statically from what is there into
// dir: what the backend microvm is made of.
func Sandboxd(t testing.TB, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "sandboxd")
	runBuild(t, goBuild(t, name, "./cmd/sandboxd", "CGO_ENABLED=0", "GOFLAGS="))
	return name
}
