package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
)

// The examples print what their comments promise, and leave nothing behind.
func TestExamples(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		hosttest.Lack(t, "there is no go command to build the examples with")
	}
	bin := filepath.Join(base, "examples")
	build := exec.Command("go", "build", "-o", bin+"/", "../examples/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // what a program is linked with is not there inside
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	everyone(t, func(t *testing.T, c *caller) {
		texts := c.dir(t)
		for name, text := range map[string]string{"a": "one two\nthree\n", "b": "CRASH\n", "c": "four\n"} {
			if err := os.WriteFile(filepath.Join(texts, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		file := func(name string) string { return filepath.Join(texts, name) }
		for _, e := range []struct {
			name, want string
			args       []string
		}{
			{name: "isolate", want: "parse \"hello\": 5\nparse \"bomb\": the actor ended: oom\n"},
			{
				name: "pool", args: []string{file("a"), file("b"), file("c"), file("missing")},
				want: file("a") + ": 2 lines, 3 words\n" + file("b") + ": it crashed the worker\n" + file("c") + ": 1 lines, 1 words\n" +
					"open " + file("missing") + ": no such file or directory\n",
			},
			{name: "plugins", want: "greet: \"hello, Ada\" false\nshout: \"HELLO!\" false\nspy: \"\" true\n"},
			{name: "coderunner", args: []string{"for i in range(3): print(i)"}, want: "0\n1\n2\n-- exited, code 0\n"},
			{name: "coderunner", args: []string{"while True: pass"}, want: "-- timeout, code 124\n"},
			{name: "pipeline", want: "10000 items, sum 333283345000\n"},
			{name: "restart", want: "life 1, call 1\nlife 1, call 2\nit ended with code 7; the next call waits for its next life\n" +
				"life 2, call 1\nlife 2, call 2\nit ended with code 7; the next call waits for its next life\nlife 3, call 1\n"},
			{name: "hostile", want: "forks: refused, and gone (lost)\ndeaf: refused, and gone (lost)\ngarbage: refused, and gone (lost)\n"},
		} {
			t.Run(e.name, func(t *testing.T) {
				if e.name == "isolate" && !c.root() {
					t.Skip("does not apply: an ordinary user without control groups has no limit on memory")
				}
				cmd := c.exec(filepath.Join(bin, e.name), e.args...)
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &errs, 10*time.Second
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				late := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
				defer late.Stop()
				if err := cmd.Wait(); err != nil || out.String() != e.want {
					t.Errorf("%v\nstdout:\n%s\nwant:\n%s\nstderr:\n%s", err, out.String(), e.want, errs.String())
				}
			})
		}
	})
}
