package hosttest

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	Main(m, map[string]func() error{
		"good": func() error {
			if _, ok := os.LookupEnv(RoleEnv); ok || len(os.Args) != 2 || os.Args[1] != "argument" {
				return errors.New("the role is inherited, or the argument lost")
			}
			return nil
		},
		"bad": func() error { return errors.New("why") },
	})
}

func TestRoles(t *testing.T) {
	for role, want := range map[string]string{"good": "", "bad": "bad: why\n", "": "no such role: \"\"\n"} {
		cmd := Command(role, "argument")
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Run(); (err == nil) != (want == "") || errs.String() != want {
			t.Errorf("%q: %v, %q", role, err, &errs)
		}
	}
}

// told records how a test ended.
type told struct {
	testing.TB
	how string
}

func (f *told) Helper()               {}
func (f *told) Fatalf(string, ...any) { f.how = "failed" }
func (f *told) Skipf(string, ...any)  { f.how += "skipped" }

func TestLack(t *testing.T) {
	for must, want := range map[string]string{"1": "failed", "": "skipped"} {
		t.Setenv("SANDBOXD_MUST_WORK", must)
		f := &told{TB: t}
		if Lack(f, "nothing"); !strings.HasPrefix(f.how, want) {
			t.Errorf("SANDBOXD_MUST_WORK=%q: %s", must, f.how)
		}
	}
}

func TestNotInGuest(t *testing.T) {
	for guest, want := range map[string]string{"1": "skipped", "": ""} {
		t.Setenv("SANDBOXD_GUEST", guest)
		f := &told{TB: t}
		if NotInGuest(f, "tools"); f.how != want {
			t.Errorf("SANDBOXD_GUEST=%q: %q, want %q", guest, f.how, want)
		}
	}
}

func TestNeedRoot(t *testing.T) {
	want := "skipped"
	if os.Geteuid() == 0 {
		want = ""
	}
	for _, must := range []string{"1", ""} { // it asks for what the host can do, not for who we are
		t.Setenv("SANDBOXD_MUST_WORK", must)
		f := &told{TB: t}
		if NeedRoot(f); f.how != want {
			t.Errorf("SANDBOXD_MUST_WORK=%q: %q, want %q", must, f.how, want)
		}
	}
}
