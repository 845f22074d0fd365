package ipc

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies keeps out what every start of the command would pay for,
// used or not: package net (we poll by os.File), a msgpack library, loggers.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "sandboxd/ipc").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, out)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if dep == "net" || dep == "log/slog" || strings.Contains(dep, ".") && !strings.HasPrefix(dep, "golang.org/x/sys/") && !strings.HasPrefix(dep, "vendor/") {
			t.Errorf("depends on %s", dep)
		}
	}
}
