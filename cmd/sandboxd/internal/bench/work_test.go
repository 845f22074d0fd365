package bench

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestWorks(t *testing.T) {
	w := workspace(t)
	probe(t, NewNative(w, Cold))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	places, skipped, err := Works(t.Context(), w, self, []string{"process", "no-such"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range places {
		names = append(names, p.Name)
		for _, kind := range workKinds[1:] {
			if r := p.Ratios[kind].PerRound; r <= 0 || p.Name == "bare" && r != 1 {
				t.Errorf("%s in %s: %v of bare", kind, p.Name, r)
			}
		}
	}
	process := slices.Index(names, "process")
	if !slices.Contains(names, "bare") || process < 0 || places[process].Start.N != 4 || places[process].Memory == 0 {
		t.Errorf("%+v", places)
	}
	if !slices.ContainsFunc(skipped, func(s Skipped) bool {
		return s.Name == "work in no-such" && strings.Contains(s.Reason, "unknown backend")
	}) {
		t.Errorf("skipped: %+v", skipped)
	}
}

func TestWorkRefuses(t *testing.T) {
	if code := Work("no-such", t.TempDir()); code != 1 {
		t.Errorf("code %d", code)
	}
	for _, out := range []string{"", "soon", "-1", "12 13"} {
		if _, err := parseWork([]byte(out)); err == nil {
			t.Errorf("%q is taken for nanoseconds", out)
		}
	}
}
