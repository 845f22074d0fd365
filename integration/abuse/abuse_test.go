package abuse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/microvm"
	"sandboxd/spawn/spawntest"
	"sandboxd/vm/debian"
)

// matrix is what of `sandboxd selftest --json` this looks at.
type matrix struct {
	Schema   string
	Backends []string
	Cases    []struct {
		ID    string
		Cells []struct {
			Backend, Outcome, Detail string
			Want                     []string
			Surprise                 bool
		}
		Control struct {
			Outcome, Why string
			Shown        bool
		}
	}
	Neighbours []struct {
		Backend, Bomb string
		P99           time.Duration `json:"p99_ns"`
		Median        time.Duration `json:"median_ns"`
		Loops         int
		Harmed        bool
	}
}

// binary is the program, where every user may execute it.
func binary(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(dir, "sandboxd")
	var err error
	if from := os.Getenv("SANDBOXD_BINARY"); from != "" {
		var b []byte
		if b, err = os.ReadFile(from); err == nil {
			err = os.WriteFile(to, b, 0o755)
		}
	} else {
		var out []byte
		cmd := exec.Command("go", "build", "-o", to, "sandboxd/cmd/sandboxd")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// selftest runs the suite as a user, whose home it makes; nothing may be left of it.
func selftest(t *testing.T, uid int, args ...string) *matrix {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err) // what is left behind becomes ours, and shows
	}
	dir, err := os.MkdirTemp("", "sandboxd-abuse-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	home := filepath.Join(dir, "home")
	if err := errors.Join(err, os.Mkdir(home, 0o711), os.Chown(home, uid, uid)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hosttest.Patience(600))
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t, dir), append([]string{"selftest", "--json"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8"}
	if uid != 0 {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+home)
	}
	if cache, err := debian.DefaultCache(); err == nil {
		cmd.Env = append(cmd.Env, "SANDBOXD_VM_CACHE="+cache.Dir)
	}
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	m := &matrix{}
	if jerr := json.Unmarshal(out, m); jerr != nil {
		t.Fatalf("selftest %v: %v, %v\n%s", args, err, jerr, errs.String())
	}
	surprises := 0
	for _, c := range m.Cases {
		for _, cell := range c.Cells {
			if cell.Surprise {
				surprises++
				t.Errorf("%s on %s: %s, want %v %s", c.ID, cell.Backend, cell.Outcome, cell.Want, cell.Detail)
			}
		}
	}
	for _, n := range m.Neighbours {
		t.Logf("%s beside %q: p99 %v, median %v, %d loops", n.Backend, n.Bomb, n.P99, n.Median, n.Loops)
		if n.Harmed {
			surprises++
			t.Errorf("%s beside %q: p99 %v", n.Backend, n.Bomb, n.P99)
		}
	}
	if (err == nil) != (surprises == 0) {
		t.Errorf("selftest %v: %v, and %d surprises", args, err, surprises)
	}
	for { // the daemons of controls, which end by themselves
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			break
		}
		if pid == 0 {
			if ctx.Err() != nil {
				t.Error("something of the suite still runs")
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 && uid == 0 {
		t.Errorf("left in TMPDIR: %v, %v", left, err)
	}
	return m
}

// all checks that nothing was left out.
func (m *matrix) all(t *testing.T) {
	t.Helper()
	if m.Schema != "sandboxd.selftest/v1" || len(m.Backends) < 2 || len(m.Cases) < 200 {
		t.Errorf("schema %q, backends %v, %d cases", m.Schema, m.Backends, len(m.Cases))
	}
	for _, c := range m.Cases {
		if len(c.Cells) != len(m.Backends) {
			t.Errorf("%s ran on %d of %d backends", c.ID, len(c.Cells), len(m.Backends))
		}
	}
}

// Everything is as declared, and each attack works where its wall is not.
func TestAsRoot(t *testing.T) {
	spawntest.Root(t)
	m := selftest(t, 0, "--control", "--neighbour")
	m.all(t)
	if len(m.Neighbours) < 20 {
		t.Errorf("%d neighbours were measured", len(m.Neighbours))
	}
	var unshown []string
	for _, c := range m.Cases {
		switch {
		case c.Control.Shown:
		case c.Control.Outcome == "" && c.Control.Why == "":
			t.Errorf("%s has no control, and says not why", c.ID)
		case c.Control.Outcome != "":
			unshown = append(unshown, c.ID+": "+c.Control.Outcome)
		}
	}
	if unshown != nil {
		hosttest.Lack(t, "what some attacks need outside of a sandbox: %s", strings.Join(unshown, "; "))
	}
}

// A machine takes seconds to start, so that `sandboxd selftest --backend microvm` takes half an hour:
// these are what a guest, its kernel and the host beside it each stop.
func TestMachine(t *testing.T) {
	spawntest.Root(t)
	hosttest.NotInGuest(t, "a machine, which would be one in a machine")
	if err := microvm.Fetch(t.Context(), t.Output()); err != nil {
		hosttest.Lack(t, "QEMU and a kernel for guests: %v", err)
	}
	m := selftest(t, 0, "--backend", "microvm", "--only", "kernel/bpf-map,leak/paths,setup/proc-symlink,handshake/half-frame,resource/memory")
	if len(m.Cases) != 5 || len(m.Cases[0].Cells) != 1 {
		t.Errorf("%+v", m)
	}
}

func TestAsUser(t *testing.T) {
	uid := os.Geteuid()
	if uid == 0 {
		uid = spawntest.Ordinary
	}
	selftest(t, uid).all(t)
}
