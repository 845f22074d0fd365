package main

import (
	"errors"
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
		if r.ok != want.ok || r.passed != want.passed || r.why != want.why || strings.Join(r.apart, ";") != want.reason {
			t.Errorf("%q: %+v, want %+v", out, r, want)
		}
		if strings.Contains(out, end) && r.release != "6.1.0-50-cloud-amd64" {
			t.Errorf("release %q", r.release)
		}
	}
}

func TestPage(t *testing.T) {
	results := []result{
		{row: row{root, "ipc", ""}, ok: true, passed: 7, release: "6.1.0-50", apart: []string{"root's alone, and the tests run as uid 7"}},
		{row: row{user, "ipc", ""}, failed: []string{"TestX"}, passed: 3, why: "failed: TestX", apart: []string{"root's alone, and the tests run as uid 8"}},
		{row: row{root, "sandbox", ""}, why: "no guest"},
	}
	page, err := page(t.Context(), results, "ipc|sandbox")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| package | 6.1 v2 root | 6.1 v2 user |\n|---|---|---|\n| ipc | 7 | **1 failed**, 3 |\n| sandbox | **failed** | not run |\n",
		"Of all rows those that match `ipc|sandbox` ran.\n", "| 6.1 | 6.1.0-50 |\n", "- ipc, 6.1 v2 user: failed: TestX\n- sandbox, 6.1 v2 root: no guest\n",
		"| root's alone, and the tests run as uid N | 6.1 v2 root, 6.1 v2 user |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
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
