package bench

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
)

func TestEachPeerOnce(t *testing.T) {
	for i, s := range peers(workspace(t)) {
		t.Run(strings.ReplaceAll(s.Name(), " ", "-"), func(t *testing.T) {
			s := peers(workspace(t))[i] // with a workspace of its own, which shows what it leaves
			probe(t, s)
			sample, err := s.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if sample.Ready <= 0 || sample.Total < sample.Ready {
				t.Errorf("sample %+v; want 0 < ready <= total", sample)
			}
			t.Logf("ready %v, total %v", sample.Ready, sample.Total)
			if v, ok := s.(Versioner); ok {
				if version, err := v.Version(t.Context()); err != nil || version == "" {
					t.Errorf("version %q, %v", version, err)
				}
			}
		})
	}
}

// Several at a time must not get into each other's bundles, roots or cgroups.
func TestPeersInFlight(t *testing.T) {
	for i, s := range peers(workspace(t)) {
		t.Run(strings.ReplaceAll(s.Name(), " ", "-"), func(t *testing.T) {
			s := peers(workspace(t))[i]
			probe(t, s)
			rates, err := Concurrency(t.Context(), s, 50*time.Millisecond, 3)
			if err != nil {
				t.Fatal(err)
			}
			if rates[0].Spawns < 3 {
				t.Errorf("%d spawns; want at least one of each worker", rates[0].Spawns)
			}
		})
	}
}

func TestExecLive(t *testing.T) {
	w := workspace(t)
	s := NewExecNamespaces(w)
	probe(t, s)
	c, err := ReachLive(t.Context(), s, 20, 4)
	if err != nil {
		t.Fatal(err)
	}
	if c.Ready.N != 20 || c.Memory.PSS <= 0 {
		t.Errorf("crowd %+v; want 20 actors that have memory", c)
	}
}

func TestBareLive(t *testing.T) {
	b := NewBare(workspace(t), BareOptions{})
	probe(t, b)
	c, err := b.Live(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	if c.Reach <= 0 || c.Gone <= 0 || c.Memory.PSS <= 0 {
		t.Errorf("crowd %+v; want times, and actors that have memory", c)
	}
	if _, err := b.Once(t.Context()); err != nil {
		t.Errorf("after a crowd: %v", err)
	}
}

// The bare program, killed amidst a crowd, leaves no process; its cgroups are
// the workspace's to sweep, which the end of the test looks at.
func TestBareKilled(t *testing.T) {
	b := NewBare(workspace(t), BareOptions{})
	probe(t, b)
	p, err := b.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ask("l 5"); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ask("k"); err == nil {
		t.Error("a killed program answered")
	}
	b.w.mu.Lock()
	b.w.closers = b.w.closers[:0] // its close reports the kill, as it should
	b.w.mu.Unlock()
	if err := p.close(); err == nil {
		t.Error("close did not tell that the program was killed")
	}
}

func TestBareSaysWhatFails(t *testing.T) {
	w := workspace(t)
	b := NewBare(w, BareOptions{})
	probe(t, b)
	if err := os.Truncate(w.program(), 0); err != nil {
		t.Fatal(err)
	}
	b.idle = nil // the next program copies what is there now
	if _, err := b.Once(t.Context()); err == nil || !strings.Contains(err.Error(), "child: -1: Exec format error") {
		t.Errorf("got %v; want the child's failed execve", err)
	}
	w.mu.Lock()
	last := w.closers[len(w.closers)-1]
	w.closers = w.closers[:len(w.closers)-1]
	w.mu.Unlock()
	if err := last(); err == nil {
		t.Error("close did not tell that the program had failed")
	}
}

func TestCommandFails(t *testing.T) {
	for _, c := range []struct {
		name string
		c    command
		want string
	}{
		{"missing", command{path: "/nonexistent/x"}, "no such file"},
		{"mute", command{path: "/bin/sh", args: []string{"-c", "exit 0"}}, "no byte from the program"},
		{"mute and failing", command{path: "/bin/sh", args: []string{"-c", "echo why >&2; exit 3"}}, "exit status 3: why"},
		{"failing", command{path: "/bin/sh", args: []string{"-c", "echo x; echo why >&2; exit 3"}}, "exit status 3: why"},
		{"silent", command{path: "/bin/sh", args: []string{"-c", "echo why >&2; exit 3"}, silent: true}, "exit status 3: why"},
	} {
		if _, err := c.c.once(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want %q", c.name, err, c.want)
		}
	}
}

func TestProbeSaysWhy(t *testing.T) {
	w := workspace(t)
	t.Setenv("PATH", "/nonexistent")
	for _, s := range []Subject{NewBwrap(w), NewBwrapCommand(), NewRunc(w), NewCrun(w), NewBare(w, BareOptions{})} {
		err := s.Probe(t.Context())
		absent := (*AbsentError)(nil)
		if !errors.As(err, &absent) || !strings.Contains(err.Error(), "install") || !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("%s: got %v; want an AbsentError that says what to install", s.Name(), err)
		}
	}
}

// Interrupted at a random point, a bench cleans up and says so.
func TestInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := hosttest.Command("bench")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(hosttest.Patience(120), func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		lines := bufio.NewScanner(out)
		lines.Scan()
		dir := lines.Text()
		if lines.Scan(); lines.Text() != "round" {
			t.Errorf("the helper said %q, then %q", dir, lines.Text())
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v: %s", sig, err, stderr.String())
		}
		if !strings.Contains(dir, "sandboxd-bench-") {
			t.Fatalf("the helper works in %q", dir)
		}
		if left := leftOf(t, dir, filepath.Base(dir)); len(left) > 0 {
			t.Errorf("after %v: left behind: %q", sig, left)
		}
	}
}
