package sandboxtest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"sandboxd/sandbox"
	"sandboxd/sandbox/sandboxtest"
	"sandboxd/spawn"
)

// verdict records what a test is told.
type verdict struct{ said string }

func (v *verdict) Helper()                     {}
func (v *verdict) Fatalf(f string, a ...any)   { v.said = "failed: " + fmt.Sprintf(f, a...) }
func (v *verdict) Skipf(f string, args ...any) { v.said = "skipped: " + fmt.Sprintf(f, args...) }

// Who passes runs, and who is skipped could not have: auto says the same.
func TestRequireBackend(t *testing.T) {
	for _, c := range []struct {
		backend  string
		features []spawn.Feature
		never    string // it can not pass, for this reason
	}{
		{"native", nil, ""},
		{"process", nil, ""},
		{"native", []spawn.Feature{spawn.MountNS, spawn.PeerSocket}, ""},
		{"process", []spawn.Feature{spawn.MountNS}, "mountns: it is not this backend's"},
		{"nope", nil, `unknown backend "nope"`},
	} {
		for _, must := range []string{"", "1"} {
			t.Setenv("SANDBOXD_MUST_WORK", must)
			v := &verdict{}
			sandboxtest.RequireBackend(v, c.backend, c.features...)
			want := map[string]string{"": "skipped: ", "1": "failed: "}[must]
			if c.never != "" && !(strings.HasPrefix(v.said, want) && strings.Contains(v.said, c.never)) || c.never == "" && v.said != "" && !strings.HasPrefix(v.said, want) {
				t.Errorf("%s %v, SANDBOXD_MUST_WORK=%q: %q", c.backend, c.features, must, v.said)
			}
		}
	}
	t.Setenv("SANDBOXD_MUST_WORK", "")
	for backend, floor := range map[string]sandbox.Floor{"process": sandbox.FloorProcess, "native": sandbox.FloorNamespace} {
		v := &verdict{}
		sandboxtest.RequireBackend(v, backend)
		r, err := sandbox.Exec(context.Background(), sandbox.Spec{Argv: []string{"true"}, Isolation: floor})
		works := err == nil && r.Backend == backend && r.Choice.Isolation == floor && r.Exit.Reason == sandbox.Exited
		if works != (v.said == "") {
			t.Errorf("%s: RequireBackend says %q, but auto gives %+v, %v", backend, v.said, r, err)
		}
	}
}
