package sandbox

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn/container"
)

// realHost is a Host of this machine, closed at the end of the test.
func realHost(t *testing.T) *Host {
	t.Helper()
	h, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// An actor's children are in its cgroup, within its limits, and gone before it is.
func TestStartBelow(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, backend := range []string{"native", "process", "container"} {
		t.Run(backend, func(t *testing.T) {
			h := realHost(t)
			if backend == "container" {
				hosttest.NeedRoot(t)
				h.backends[backend] = container.New(container.Options{Helper: hosttest.Container(t)})
			}
			sleep := func(parent *Process, nest bool, l Limits, script string) (*Process, error) {
				s := Spec{Backend: backend, Limits: l, Argv: []string{"sh", "-c", script}}
				if nest {
					s.Kinds = map[string]Spec{"any": {}}
				}
				if parent == nil {
					return h.Start(ctx, s)
				}
				return h.startBelow(ctx, parent, s)
			}
			must := func(a *Process, err error) *Process {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			var half Limits
			if h.noCgroup == nil && h.cgroups.Has(cgroup.CPU) == nil {
				half.CPUs = 0.5
			}
			top := must(sleep(nil, true, half, "sleep 1000"))
			kid := must(sleep(top, true, Limits{}, "sleep 1000"))
			last := must(sleep(kid, false, Limits{Memory: Unlimited, PIDs: Unlimited, CPUs: Unlimited}, "sleep 1000"))
			for _, pair := range [][2]*Process{{top, kid}, {kid, last}} {
				if pair[0].leaf == nil {
					continue // an ordinary user without cgroups
				}
				up, down := pair[0].leaf.Dirs(), pair[1].leaf.Dirs()
				if len(up) != len(down) {
					t.Errorf("%v is not below all of %v", down, up)
				}
				for i := range min(len(up), len(down)) {
					if !strings.HasPrefix(down[i], up[i]+"/") {
						t.Errorf("%s is not below %s", down[i], up[i])
					}
				}
				if has, err := pair[1].leaf.Holds(pair[1].PID()); err != nil || has == 0 {
					t.Errorf("the child's init is held by %v, %v", has, err)
				}
			}
			if top.leaf != nil && h.cgroups.V1(cgroup.CPU) {
				if a, err := sleep(top, false, Limits{CPUs: 0.8}, "sleep 1000"); err == nil {
					t.Error("more CPU than the parent has was granted on v1")
					a.Cancel("the test", 0)
				}
				if !kid.res.lacks("cpus") {
					t.Errorf("the default of CPUs above the parent's: %+v", kid.res.missing)
				}
			}
			if _, err := sleep(last, false, Limits{}, "true"); err == nil || !strings.Contains(err.Error(), "names no Kinds") {
				t.Errorf("below one that has none: %v", err)
			}
			ended := must(sleep(kid, true, Limits{}, "exit 3"))
			if r := report(t, ended); r.Exit.Code != 3 {
				t.Errorf("%+v", r.Exit)
			}
			if _, err := sleep(ended, false, Limits{}, "true"); err == nil || !strings.Contains(err.Error(), "has ended") {
				t.Errorf("below one that has ended: %v", err)
			}
			// The parent's end while more are being started.
			var starting sync.WaitGroup
			for range 4 {
				starting.Go(func() {
					if a, err := sleep(top, false, Limits{}, "sleep 1000"); err == nil {
						if e := report(t, a).Exit; e.Reason != Cancelled {
							t.Errorf("%+v", e)
						}
					}
				})
			}
			top.Cancel("the test", 0)
			<-top.Gone()
			for _, a := range []*Process{kid, last} {
				select {
				case <-a.Gone():
				default:
					t.Error("the parent is gone, the child is not")
				}
				if e := report(t, a).Exit; e.Reason != Cancelled || !strings.Contains(e.Detail, "parent") {
					t.Errorf("%+v", e)
				}
			}
			starting.Wait()
			if top.leaf != nil {
				for _, dir := range top.leaf.Dirs() {
					if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("%s: %v", dir, err)
					}
				}
			}
		})
	}
}

// The parent's limit on processes binds it and its children together.
func TestBelowSharesPIDs(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h := realHost(t)
	if h.noCgroup != nil || h.cgroups.Has(cgroup.PIDs) != nil {
		t.Skip("does not apply: this user has no cgroup to count processes in")
	}
	top, err := h.Start(ctx, Spec{Argv: []string{"sleep", "1000"}, Kinds: map[string]Spec{"any": {}}, Limits: Limits{PIDs: 8}})
	if err != nil {
		t.Fatal(err)
	}
	kid, err := h.startBelow(ctx, top, Spec{Argv: []string{"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait"}, Limits: Limits{PIDs: 100}})
	if err != nil {
		t.Fatal(err)
	}
	if e := report(t, kid).Exit; e.Code == 0 {
		t.Errorf("twelve processes where eight may be: %+v", e)
	}
	top.Cancel("the test", 0)
	report(t, top)
}
