package abuse

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sandboxd/internal/hosttest"
)

// The attacker is this test binary too.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "selftest" && os.Args[2] == AttackArg {
		os.Exit(Serve(os.Args[3:]))
	}
	os.Exit(m.Run())
}

// The page is what `sandboxd selftest --list` writes.
func TestPageIsCurrent(t *testing.T) {
	var b bytes.Buffer
	if err := Page(&b); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../../../docs/abuse.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Error("docs/abuse.md is not what the cases say; run: sandboxd selftest --list >docs/abuse.md")
	}
}

// Every case is in a class, has one way to run and one control, and is declared
// so that it can fail: what stops it never stands beside what does not.
func TestCasesAreWhole(t *testing.T) {
	var classes []string
	for _, c := range Classes() {
		classes = append(classes, c[0])
	}
	known := map[string]bool{}
	name := regexp.MustCompile(`^[a-z]+/[a-z0-9-]+$`)
	outcome := regexp.MustCompile(`^([A-Z0-9]+|[a-z][a-z -]*)$`)
	for _, c := range Cases() {
		if known[c.ID] || !name.MatchString(c.ID) || !slices.Contains(classes, c.Class()) || c.Says == "" {
			t.Errorf("%s: is known already, has a strange name, no class or no words", c.ID)
		}
		known[c.ID] = true
		if c.Run == nil && c.Attack == nil || c.NoControl != "" && c.Opened != nil {
			t.Errorf("%s: cannot run, or has a control and none", c.ID)
		}
		for _, col := range columns() {
			for _, nothing := range []bool{true, false} {
				got, err := expect(col.want(&c), func(string) bool { return !nothing })
				if err != nil || len(got) == 0 || len(got) > 1 && slices.Contains(got, Through) {
					t.Errorf("%s on %s: %v, %v", c.ID, col.backend, got, err)
				}
				for _, o := range got {
					if !outcome.MatchString(o) {
						t.Errorf("%s on %s: outcome %q", c.ID, col.backend, o)
					}
				}
				if want := col.want(&c); slices.Contains(got, Through) && !strings.Contains(want, "#") {
					t.Errorf("%s on %s: nothing stops it, and %q says not why", c.ID, col.backend, want)
				}
			}
		}
	}
	for _, col := range columns() {
		for key := range col.except {
			prefix, tree := strings.CutSuffix(key, "*")
			if !known[key] && !(tree && slices.ContainsFunc(Cases(), func(c Case) bool { return strings.HasPrefix(c.ID, prefix) })) {
				t.Errorf("the column of %s speaks of %s, which is no case", col.backend, key)
			}
		}
	}
}

// SECURITY.md points at cases that there are.
func TestClaimsHaveCases(t *testing.T) {
	page, err := os.ReadFile("../../../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) < 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[2], -1) {
			found++
			prefix, tree := strings.CutSuffix(m[1], "*")
			if !slices.ContainsFunc(Cases(), func(c Case) bool { return c.ID == m[1] || tree && strings.HasPrefix(c.ID, prefix) }) {
				t.Errorf("SECURITY.md: no case is called %s", m[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("SECURITY.md names %d cases only", found)
	}
}

func TestExpect(t *testing.T) {
	for _, c := range []struct {
		want, has string
		outcomes  string
	}{
		{"EPERM|EACCES", "", "EPERM EACCES"},
		{"EPERM # why", "", "EPERM"},
		{"EPERM; without a: no effect # why", "", "no effect"},
		{"EPERM; without a: no effect # why", "a", "EPERM"},
		{"EPERM; without a and b: OK", "a", "EPERM"},
		{"EPERM; without a and b: OK", "b", "EPERM"},
		{"EPERM; without a and b: OK", "c", "OK"},
	} {
		got, err := expect(c.want, func(what string) bool { return what == c.has })
		if err != nil || strings.Join(got, " ") != c.outcomes {
			t.Errorf("%q with %q: %q, %v", c.want, c.has, got, err)
		}
	}
	if _, err := expect("EPERM; without a OK", func(string) bool { return false }); err == nil {
		t.Error("a clause without a colon was taken")
	}
	if within("EPERM,OK", []string{"EPERM"}) || !within("EPERM,EACCES", []string{"EACCES", "EPERM"}) || within("", []string{"EPERM"}) {
		t.Error("several outcomes are not judged one by one")
	}
}

// A sandbox that lets an attack through, or stops it otherwise, is a surprise;
// so is an attack that did not come about. The rest is not.
func TestSurprises(t *testing.T) {
	s, err := Open(Options{Control: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	b, err := s.host.Backend("native")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Probe(t.Context()).Hold(); err != nil {
		hosttest.Lack(t, "the native backend: %v", err)
	}
	cases := Cases()
	i := slices.IndexFunc(cases, func(c Case) bool { return c.ID == "kernel/adjtimex" })
	for want, surprise := range map[string]bool{"EPERM": false, "EPERM|ENOSYS": false, "ENOSYS": true, "OK # open": true} {
		c := cases[i]
		c.Want = want
		cell, err := s.cell(t.Context(), &c, &column{backend: "native"}, func(string) bool { return true })
		if err != nil || cell.Surprise != surprise || cell.Outcome != "EPERM" {
			t.Errorf("want %q: %+v, %v", want, cell, err)
		}
		m := Matrix{Backends: []string{"native"}, Cases: []Row{{ID: c.ID, Cells: []Cell{cell}}}}
		var text strings.Builder
		if err := m.Text(&text); err != nil || strings.Contains(text.String(), "SURPRISE") != surprise || len(m.Surprises()) > 0 != surprise {
			t.Errorf("want %q: %v\n%s", want, err, text.String())
		}
	}
	broken := Case{ID: "kernel/no-such-attack", Want: "EPERM"}
	if cell, err := s.cell(t.Context(), &broken, &column{backend: "native"}, func(string) bool { return true }); err != nil || !cell.Surprise {
		t.Errorf("an attack that does not exist: %+v, %v", cell, err)
	}
	// What gets through without the wall shows that the case can fail; what does not, does not.
	if c := s.control(context.Background(), &cases[i], "native", []string{"EPERM"}); !c.Shown {
		t.Errorf("control: %+v", c)
	}
	if c := s.control(context.Background(), &cases[i], "native", []string{Through + "x", "OK"}); c.Shown {
		t.Errorf("control of what gets through anyway: %+v", c)
	}
}

// Nothing of a suite is left in its directory.
func TestCloseRemovesAll(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := Open(Options{Only: []string{"leak/directory"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(os.Getenv("TMPDIR") + "/*"); err != nil || left != nil {
		t.Errorf("left: %v, %v", left, err)
	}
	for _, o := range []Options{{Backends: []string{"nope"}}, {Only: []string{"nope"}}} {
		if s, err := Open(o); err == nil {
			s.Close()
			t.Errorf("%+v was taken", o)
		}
	}
}
