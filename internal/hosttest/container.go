package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Container is the path of the helper of the container backend: what
// SANDBOXD_CONTAINER says, or built from what is there, in .cache.
func Container(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("SANDBOXD_CONTAINER"); name != "" {
		return name
	}
	_, self, _, _ := runtime.Caller(0)
	root := filepath.Dir(filepath.Dir(filepath.Dir(self)))
	name := filepath.Join(root, ".cache", "sandboxd-container")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(name+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for err := error(unix.EINTR); err == unix.EINTR; { // packages are tested at once
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		Lack(t, "a C compiler, which %s takes: %v", name, err)
	}
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", root, "CONTAINER="+name, name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return name
}
