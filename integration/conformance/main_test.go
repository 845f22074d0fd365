package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestCells(t *testing.T) {
	const out = `=== RUN   TestConformance
=== RUN   TestConformance/Declared
=== RUN   TestConformance/Hidden
    spawntest.go:82: does not apply: the backend declines hidden: it has no namespaces
=== RUN   TestConformance/Exe
=== RUN   TestConformance/Exe/part
    exe.go:3: wrong
--- FAIL: TestConformance (1.00s)
    --- PASS: TestConformance/Declared (0.17s)
    --- SKIP: TestConformance/Hidden (0.00s)
    --- FAIL: TestConformance/Exe (0.17s)
        --- FAIL: TestConformance/Exe/part (0.17s)
`
	got := cells(out)
	want := []cell{
		{suite, "FAIL", ""},
		{"Declared", "PASS", ""},
		{"Hidden", "SKIP", "the backend declines hidden: it has no namespaces"},
		{"Exe", "FAIL", ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	text := string(page([]column{
		{"a", "root", got}, {"b", "root", cells("=== RUN   TestConformance\n    x_test.go:4: does not apply: root's alone\n--- SKIP: TestConformance (0.00s)\n")}, {"c", "user", nil},
	}))
	for _, line := range []string{
		"| behaviour | a root | b root | c user |", "| Declared | yes | 1 | not run |", "| Hidden | 2 | 1 | not run |", "| Exe | **no** | 1 | not run |",
		"1. root's alone", "2. the backend declines hidden: it has no namespaces",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
}
