package bench

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies keeps out what every start of the command would pay for,
// used or not.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, out)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		switch dep {
		case "net", "regexp", "text/template", "html/template", "log/slog":
			t.Errorf("depends on %s", dep)
		}
	}
}
