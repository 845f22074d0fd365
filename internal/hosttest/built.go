package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// repository is where this module's sources are, for tests that build them.
func repository() string {
	_, self, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(self)))
}

// cacheDir is .cache of the repository.
func cacheDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(repository(), ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// built is a file in .cache that a command makes, for one test at a time: packages are tested at once.
func built(t testing.TB, name string, command func(file string) *exec.Cmd) string {
	t.Helper()
	name = filepath.Join(cacheDir(t), name)
	lock, err := os.OpenFile(name+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for err := error(unix.EINTR); err == unix.EINTR; {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	runBuild(t, command(name))
	return name
}

// goBuild makes file out of a package of this module's.
func goBuild(t testing.TB, file, source string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", file, source)
	cmd.Dir, cmd.Env = repository(), append(os.Environ(), env...)
	return cmd
}

func runBuild(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}
