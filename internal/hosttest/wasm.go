package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Wasm is the path of the worker of the wasm backend: what SANDBOXD_WASM says,
// or built from what is there, in .cache.
func Wasm(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("SANDBOXD_WASM"); name != "" {
		return name
	}
	return built(t, "sandboxd-wasm", "./cmd/sandboxd-wasm", "CGO_ENABLED=0")
}

// WASI is the path of a Go program of this module's, built as a WASI module:
// what SANDBOXD_WASM_NAME says, or built in .cache.
func WASI(t testing.TB, name, source string) string {
	t.Helper()
	if path := os.Getenv("SANDBOXD_WASM_" + strings.ToUpper(name)); path != "" {
		return path
	}
	return built(t, name+".wasm", source, "GOOS=wasip1", "GOARCH=wasm")
}

// WASICache is the directory in which tests keep compiled modules: it saves each of them seconds.
func WASICache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("SANDBOXD_WASM_CACHE"); dir != "" {
		return dir
	}
	return filepath.Join(cacheDir(t), "wasm-modules")
}

// cacheDir is .cache of the repository.
func cacheDir(t testing.TB) string {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(self))), ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// built is a program of this module's, built into .cache by one test at a time.
func built(t testing.TB, name, source string, env ...string) string {
	t.Helper()
	NotInGuest(t, "Go, which builds "+name)
	name = filepath.Join(cacheDir(t), name)
	lock, err := os.OpenFile(name+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	for err := error(unix.EINTR); err == unix.EINTR; { // packages are tested at once
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", name, source)
	cmd.Dir, cmd.Env = filepath.Dir(filepath.Dir(name)), append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return name
}
