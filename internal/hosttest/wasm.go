package hosttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Wasm is the path of the worker of the wasm backend: what SANDBOXD_WASM says,
// or built from what is there, in .cache.
func Wasm(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("SANDBOXD_WASM"); name != "" {
		return name
	}
	return builtGo(t, "sandboxd-wasm", "./cmd/sandboxd-wasm", "CGO_ENABLED=0")
}

// WASI is the path of a Go program of this module's, built as a WASI module:
// what SANDBOXD_WASM_NAME says, or built in .cache.
func WASI(t testing.TB, name, source string) string {
	t.Helper()
	if path := os.Getenv("SANDBOXD_WASM_" + strings.ToUpper(name)); path != "" {
		return path
	}
	return builtGo(t, name+".wasm", source, "GOOS=wasip1", "GOARCH=wasm")
}

// WASICache is the directory in which tests keep compiled modules: it saves each of them seconds.
func WASICache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("SANDBOXD_WASM_CACHE"); dir != "" {
		return dir
	}
	return filepath.Join(cacheDir(t), "wasm-modules")
}

func builtGo(t testing.TB, name, source string, env ...string) string {
	t.Helper()
	NotInGuest(t, "Go, which builds "+name)
	return built(t, name, func(file string) *exec.Cmd { return goBuild(t, file, source, env...) })
}
