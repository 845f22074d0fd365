package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sandboxd/internal/hosttest"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[2] == TalkArg { // as an actor of Talk
		os.Exit(ServeTalk(os.Args[3]))
	}
	if len(os.Args) == 5 && os.Args[2] == WorkArg {
		os.Exit(Work(os.Args[3], os.Args[4]))
	}
	hosttest.Main(m, map[string]func() error{"bench": benchUntilInterrupted})
}

// benchUntilInterrupted prints where it works, then "round" once it is amidst.
func benchUntilInterrupted() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w, err := NewWorkspace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	fmt.Println(w.Dir())
	_, err = Interleave(ctx, peers(w), Options{Rounds: 1 << 20, Progress: func(round, _ int) {
		if round == 2 {
			fmt.Println("round")
		}
	}})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the run ended with %w; want the interruption", err)
	}
	return nil
}

func peers(w *Workspace) []Subject {
	return []Subject{
		NewExec(w), NewExecNamespaces(w), NewBwrap(w), NewBwrapCommand(), NewRunc(w), NewCrun(w),
		NewBare(w, BareOptions{}), NewBare(w, BareOptions{Template: true}), NewBare(w, BareOptions{Pooled: true}),
		NewBare(w, BareOptions{Template: true, Pooled: true}),
	}
}

// probe skips the test if the subject cannot be measured here.
func probe(t *testing.T, s Subject) {
	t.Helper()
	if err := s.Probe(t.Context()); err != nil {
		if absent := (*AbsentError)(nil); !errors.As(err, &absent) {
			t.Fatalf("Probe of %s gave %v; want nil or an AbsentError", s.Name(), err)
		}
		hosttest.Lack(t, "a peer: %v", err)
	}
}

func workspace(t *testing.T) *Workspace {
	t.Helper()
	w, err := NewWorkspace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if left := leftOf(t, w.dir, w.folder); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	return w
}

// leftOf looks everywhere for what bears the name of a workspace.
func leftOf(t *testing.T, dir, folder string) (left []string) {
	t.Helper()
	if _, err := os.Lstat(dir); err == nil {
		left = append(left, dir)
	}
	s, err := TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{kindMount, kindCgroup, kindSocket, kindFD} {
		for _, item := range s.items[k] {
			if strings.Contains(item, folder) {
				left = append(left, item)
			}
		}
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if text, err := os.ReadFile(c); err == nil && strings.Contains(string(text), folder) {
			left = append(left, c+": "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	slices.Sort(left)
	return left
}
