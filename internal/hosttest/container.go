package hosttest

import (
	"os"
	"os/exec"
	"testing"
)

// Container is the path of the helper of the container backend: what
// SANDBOXD_CONTAINER says, or built from what is there, in .cache.
func Container(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("SANDBOXD_CONTAINER"); name != "" {
		return name
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		Lack(t, "a C compiler, which the helper of the container backend takes: %v", err)
	}
	return built(t, "sandboxd-container", func(file string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", repository(), "CONTAINER="+file, file)
	})
}
