package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sandboxd/cmd/sandboxd/internal/doctor"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sandboxd": main})
}

// The scripts are what people type, and what they get.
func TestScripts(t *testing.T) {
	works := doctor.Judge(doctor.Observe(t.Context())).Works
	if !works && os.Getenv("SANDBOXD_MUST_WORK") == "1" {
		t.Fatal("the default backend does not work here; see sandboxd doctor")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "works":
				return works, nil
			case "root":
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "field": field, "refused": refused, "words": words},
	})
}

// code runs sandboxd and checks its exit code: code 124 run --timeout 1s -- sleep 9.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: code N [ARG...]")
	}
	// The shell says what testscript does not: the number.
	err := ts.Exec("sh", append([]string{"-c", `"$@"; echo $? >code.txt`, "sh", "sandboxd"}, args[1:]...)...)
	ts.Check(err)
	if got := strings.TrimSpace(ts.ReadFile("code.txt")); got != args[0] {
		ts.Fatalf("sandboxd %q: exit code %s, want %s", args[1:], got, args[0])
	}
}

// refused runs the line of each row of a table in a file, and wants exit code
// 125 and the row's words on stderr: LINE => WORDS.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	rows := 0
	for row := range strings.Lines(ts.ReadFile(args[0])) {
		line, want, ok := strings.Cut(strings.TrimSpace(row), " => ")
		if !ok {
			ts.Fatalf("row %q is not LINE => WORDS", row)
		}
		err := ts.Exec("sh", "-c", "sandboxd "+line+` 2>err.txt; echo $? >code.txt`)
		ts.Check(err)
		said := ts.ReadFile("err.txt")
		if got := strings.TrimSpace(ts.ReadFile("code.txt")); got != "125" || !strings.Contains(said, want) || !strings.HasPrefix(said, "sandboxd: ") {
			ts.Fatalf("sandboxd %s: exit code %s, want 125; it said\n%swant words %q", line, got, said, want)
		}
		rows++
	}
	if rows == 0 {
		ts.Fatalf("%s has no rows", args[0])
	}
}

// field checks one value of a JSON file: field FILE exit.reason '"oom"'; the
// value may be ?, for any that is not zero.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: field FILE PATH VALUE")
	}
	var v any
	text := ts.ReadFile(args[0])
	if i := strings.Index(text, `{"schema"`); i > 0 { // --json shares stderr with the program
		text = text[i:]
	}
	ts.Check(json.NewDecoder(strings.NewReader(text)).Decode(&v))
	for name := range strings.SplitSeq(args[1], ".") {
		m, object := v.(map[string]any)
		next, found := m[name]
		if v = next; !object || !found {
			ts.Fatalf("%s: no %s (%s)", args[0], args[1], name)
		}
	}
	b, err := json.Marshal(v)
	ts.Check(err)
	ok := string(b) == args[2]
	if args[2] == "?" {
		ok = string(b) != "0" && string(b) != `""` && string(b) != "null" && string(b) != "[]"
	}
	if ok == neg {
		ts.Fatalf("%s: %s is %s, want %s", args[0], args[1], b, args[2])
	}
}

var (
	counter = regexp.MustCompile(`(?m)^ +[0-9]+  `)
	number  = regexp.MustCompile(`\b[0-9]{4,}\b`)
	perHost = regexp.MustCompile(`(?m)^  landlock-.*\n`) // whether and what depends on the kernel
)

// words compares a printed plan from confinement on with a golden file, after
// leaving out of it what depends on the host.
func words(ts *testscript.TestScript, neg bool, args []string) {
	got := ts.ReadFile(args[0])
	_, got, _ = strings.Cut(got, "which checks who calls by what the kernel says of it\n")
	got = perHost.ReplaceAllString(counter.ReplaceAllString(got, "  "), "")
	got = number.ReplaceAllString(got, "N")
	if want := ts.ReadFile(args[1]); got != want {
		ts.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}
