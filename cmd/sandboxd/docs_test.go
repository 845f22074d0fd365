package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sandboxd/cmd/sandboxd/internal/doctor"
	"sandboxd/internal/hosttest"
)

// example is a line that runs a program, with what is said of it: in the comment
// behind it, or in the indented block that follows.
var example = regexp.MustCompile(`(?m)^    (?:\./)?(sandboxd run [^\[\n]*?)(?: +# (.*))?\n(?:\n    ((?:42|sandboxd: ).*)\n)?`)

// What the pages show happens.
func TestExamples(t *testing.T) {
	if !doctor.Judge(doctor.Observe(t.Context())).Works {
		hosttest.Lack(t, "the default backend; see sandboxd doctor")
	}
	shown := 0
	for _, page := range []string{"../../README.md", "../../docs/run.md", "../../docs/report.md"} {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range example.FindAllStringSubmatch(string(b), -1) {
			shown++
			line, want := m[1], m[2]+m[3]
			t.Run(filepath.Base(page), func(t *testing.T) {
				if strings.Contains(line, "--memory") && os.Geteuid() != 0 {
					t.Skip("does not apply: root only, as the page says")
				}
				dir := t.TempDir()
				if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(line, "gvisor") || strings.Contains(line, "--isolation kernel") {
					t.Setenv("PATH", filepath.Dir(hosttest.Runsc(t))+":"+os.Getenv("PATH"))
				}
				c := exec.Command("sh", "-c", line)
				c.Dir = dir
				out, err := c.CombinedOutput()
				code := 0
				if exit, ok := errors.AsType[*exec.ExitError](err); ok {
					code = exit.ExitCode()
				} else if err != nil {
					t.Fatal(err)
				}
				if n, ok := strings.CutPrefix(want, "exit code "); ok {
					if n, _, _ = strings.Cut(n, ":"); n != strconv.Itoa(code) {
						t.Errorf("%s: exit code %d, want %s; it said\n%s", line, code, n, out)
					}
				} else if code == exitOurs || !strings.Contains(string(out), want) {
					t.Errorf("%s: exit code %d; it said\n%swant words %q", line, code, out, want)
				}
			})
		}
	}
	if shown < 15 {
		t.Errorf("the pages show %d lines only", shown)
	}
}
