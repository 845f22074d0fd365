package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const passes = "--- PASS: TestA (0.1s)\n    --- PASS: TestA/b (0.1s)\n"
	const skips = "    x_test.go:1: does not apply: root's alone, and the tests run as uid 1000\n--- SKIP: TestC (0.0s)\n"
	const end = "vm: packed 1ms; kernel 6.1.0-50-cloud-amd64\n"
	for out, want := range map[string]struct {
		err         error
		ok          bool
		passed      int
		why, reason string
	}{
		passes + skips + end: {nil, true, 1, "", "root's alone, and the tests run as uid 1000"},
		skips + end:          {nil, true, 0, "", "root's alone, and the tests run as uid 1000"},
		"testing: warning: no tests to run\n" + end:            {nil, false, 0, "no test ran", ""},
		passes + "--- FAIL: TestD (1s)\n    --- FAIL: TestD/e": {errors.New("exit status 1"), false, 1, "failed: TestD TestD/e", ""},
		passes + "\nvm: the guest's kernel panicked\nmore":     {errors.New("exit status 125"), false, 1, "exit status 125, vm: the guest's kernel panicked", ""},
		passes: {errors.New("exit status 2"), false, 1, "exit status 2", ""},
	} {
		r := judge(row{}, out, want.err)
		if r.OK != want.ok || r.Passed != want.passed || r.Why != want.why || strings.Join(r.Apart, ";") != want.reason {
			t.Errorf("%q: %+v, want %+v", out, r, want)
		}
		if strings.Contains(out, end) && r.Release != "6.1.0-50-cloud-amd64" {
			t.Errorf("release %q", r.Release)
		}
	}
}

func TestPage(t *testing.T) {
	results := []result{
		{row: row{root, "ipc", ""}, OK: true, Passed: 7, Release: "6.1.0-50", Apart: []string{"root's alone, and the tests run as uid 7"}, Version: "new"},
		{row: row{user, "ipc", ""}, Failed: []string{"TestX"}, Passed: 3, Why: "failed: TestX", Apart: []string{"root's alone, and the tests run as uid 8"}, Version: "old"},
		{row: row{root, "sandbox", ""}, Why: "no guest", Version: "old"},
	}
	var rows []row
	for _, l := range []layout{root, user, newer} {
		rows = append(rows, row{l, "ipc", ""}, row{l, "sandbox", ""}, row{l, "spawn", ""})
	}
	page := string(page(rows, results))
	for _, want := range []string{
		"| package | 6.1 v2 root | 6.1 v2 user | 6.12 v2 root |\n|---|---|---|---|\n| ipc | 7 | **1 failed**, 3 | not run |\n| sandbox | **failed** | not run | not run |\n| spawn | not run |",
		"\n3 of 9 rows have run, each a guest;",
		"| old | 2 |\n| new | 1: 6.1 v2 root ipc |\n", "| 6.1 | 6.1.0-50 |\n", "- ipc, 6.1 v2 user: failed: TestX\n- sandbox, 6.1 v2 root: no guest\n",
		"| root's alone, and the tests run as uid N | 6.1 v2 root, 6.1 v2 user |\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

func TestResume(t *testing.T) {
	t.Chdir(t.TempDir())
	o := options{markdown: "page.md"}
	all := everything([]string{"ipc", "sandbox"})
	passed := result{row: all[0], OK: true, Passed: 7, Apart: []string{"why"}, Took: 3, Version: "v1"}
	failed := result{row: all[2], Why: "failed: TestX", Failed: []string{"TestX"}}
	b, err := openBook(o.results())
	for _, r := range []result{{row: all[0]}, failed, passed} {
		if err == nil {
			err = b.put(&r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("page.json")
	if lines := strings.Count(string(text), "\n"); err != nil || lines != 4 {
		t.Errorf("%d lines, %v:\n%s", lines, err, text)
	}
	b, err = openBook("page.json")
	if err != nil || !reflect.DeepEqual(b.of(all), []result{passed, failed}) {
		t.Fatalf("%+v, %v", b, err)
	}
	for o, want := range map[*options][]row{
		{resume: true}:                              all[1:],
		{resume: true, only: "^6.1 v2 root"}:        {all[1]},
		{only: "^6.1 v2 root ipc|^6.1 v2 user ipc"}: {all[0], all[2]},
	} {
		if got, err := o.pick(all, b); err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: %v, %v", o, got, err)
		}
	}
	if err := os.WriteFile("page.json", text[:len(text)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openBook("page.json"); err == nil || !strings.Contains(err.Error(), "page.json") {
		t.Errorf("half a file: %v", err)
	}
	// Of a slice nothing is kept.
	none, err := openBook((&options{}).results())
	if err == nil {
		err = none.put(&passed)
	}
	if files, _ := filepath.Glob("*"); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

// Rows share a directory for what they leave.
func TestNamesDiffer(t *testing.T) {
	for _, rows := range [][]row{smoke, everything([]string{"sandbox", "sandbox/cgroup", "spawn"})} {
		seen := map[string]bool{}
		for _, r := range rows {
			if seen[r.name()] {
				t.Errorf("two rows are called %s", r.name())
			}
			seen[r.name()] = true
		}
	}
}

func TestAlikeRunOnce(t *testing.T) {
	packages := []string{"ipc", "ipc/wire"}
	rows := everything(packages)
	if n := len(layouts()) + 1; len(rows) != n {
		t.Errorf("%d rows, want %d: %v", len(rows), n, rows)
	}
	if page := string(page(rows, nil)); !strings.Contains(page, "| ipc/wire | not run | as the first |") {
		t.Errorf("the page does not tell what runs in one layout alone:\n%s", page)
	}
	for _, p := range alike {
		if m, err := filepath.Glob("../../" + p + "/*_test.go"); err != nil || len(m) == 0 {
			t.Errorf("no tests in %s: %v", p, err)
		}
	}
}
