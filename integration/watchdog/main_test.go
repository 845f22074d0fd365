package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
)

// The test binary is the watchdog, or the hanging test suite below it.
func TestMain(m *testing.M) {
	hosttest.Main(m, map[string]func() error{
		"watchdog": func() error { main(); return nil },
		"hang":     func() error { hangHere(); return nil },
	})
}

//go:noinline
func hangHere() {
	// A grandchild in a session of its own, deaf to all but SIGKILL.
	cmd := exec.Command("setsid", "sh", "-c", "trap '' INT TERM HUP QUIT; sleep 1000; sleep 1000")
	cmd.Stdout = os.Stdout
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	time.Sleep(time.Hour)
}

func watchdog(t *testing.T, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := hosttest.Command("watchdog", args...)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("input\n"), &o, &e
	cmd.WaitDelay = time.Minute
	_ = cmd.Run()
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

func TestCommandIsTransparent(t *testing.T) {
	dump := filepath.Join(t.TempDir(), "dump")
	for script, want := range map[string]int{"cat; echo err >&2; exit 3": 3, "cat; echo err >&2; kill -9 $$": 137, "cat; echo err >&2": 0} {
		out, errs, code := watchdog(t, "-dump", dump, "--", "sh", "-c", script)
		if out != "input\n" || !strings.HasPrefix(errs, "err\n") || code != want {
			t.Errorf("%s: exit %d, want %d; stdout %q, stderr %q", script, code, want, out, errs)
		}
	}
	if _, err := os.Stat(dump); err == nil {
		t.Error("a dump without a timeout")
	}
	if _, errs, code := watchdog(t, "--", "/no/such/command"); code != 1 || !strings.Contains(errs, "/no/such/command") {
		t.Errorf("a missing command: exit %d, stderr %q", code, errs)
	}
}

func TestHangIsDumpedAndKilled(t *testing.T) {
	dump, before := filepath.Join(t.TempDir(), "dump"), groups(t)
	_, errs, code := watchdog(t, "-timeout", "2s", "-dump", dump, "--", "env", hosttest.RoleEnv+"=hang", os.Args[0])
	if code != 1 || !strings.Contains(errs, "took longer than 2s") || !strings.Contains(errs, dump) {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	b, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"== processes\n", "wchan ", "fd 1 ", "sleep 1000", "== goroutines", "SIGQUIT: quit", "hangHere"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the dump has no %q:\n%s", want, b)
		}
	}
	if ours := tree(); len(ours) != 0 {
		t.Errorf("alive after the watchdog: %v", ours)
	}
	if after := groups(t); !slices.Equal(after, before) {
		t.Errorf("cgroups before %v, afterwards %v", before, after)
	}
}

// groups are the cgroups of watchdogs; we may run below one ourselves.
func groups(t *testing.T) (found []string) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "watchdog-") {
			found = append(found, p)
		}
		return nil // directories come and go
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLeftoversAreFound(t *testing.T) {
	// An orphan that has ended is none.
	if _, errs, code := watchdog(t, "-dump", os.DevNull, "--", "sh", "-c", "(true &); (setsid sleep 0.1 &); sleep 1"); code != 0 || strings.Contains(errs, "left behind") {
		t.Errorf("an orphan that ended: exit %d, stderr %q", code, errs)
	}
	_, errs, code := watchdog(t, "-dump", os.DevNull, "--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 0")
	if code != 1 || !strings.Contains(errs, "left behind") || !strings.Contains(errs, "sleep 1000") {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
}
