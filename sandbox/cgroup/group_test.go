package cgroup

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The directories of a group on v2: its limits, what it hands down, its own processes beside the leaves in it.
func TestGroupFiles(t *testing.T) {
	f := newFake(t, "/")
	tree := f.tree()
	limits := ordinary
	limits.Group = true
	g := mustLeaf(t, tree, "g", limits)
	f.want("/sandboxd-7/g/pids.max", "32")
	f.want("/sandboxd-7/g/cgroup.subtree_control", "+memory +pids +cpu")
	_, into, err := g.Join()
	if err != nil || into.Name() != f.root+"/sandboxd-7/g/self/." {
		t.Fatalf("join: %v, %v", into, err)
	}
	into.Close()
	limits.PIDs, limits.CPUMilli = 5, 9000
	inner, err := g.Leaf("h", limits)
	if err != nil {
		t.Fatal(err)
	}
	f.want("/sandboxd-7/g/h/pids.max", "5")
	f.want("/sandboxd-7/g/h/cpu.max", "900000 100000") // more than the group's: the tighter one wins
	f.want("/sandboxd-7/g/h/cgroup.subtree_control", "+memory +pids +cpu")
	last, err := inner.Leaf("i", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, into, err = last.Join(); err != nil || into.Name() != f.root+"/sandboxd-7/g/h/i/." {
		t.Fatalf("join: %v, %v", into, err)
	}
	into.Close()
	if got, err := g.Limits(); err != nil || !got.Group || got.PIDs != 32 {
		t.Errorf("limits %+v (%v)", got, err)
	}

	// Where forks are counted depends on the kernel.
	for _, file := range []string{"memory.events", "pids.events", "cpu.stat"} {
		for _, dir := range []string{"g", "g/self", "g/h", "g/h/self", "g/h/i"} {
			f.set(f.root+"/sandboxd-7/"+dir+"/"+file, map[string]string{"memory.events": "max 1\noom_kill 1\n", "pids.events": "max 1\n", "cpu.stat": ""}[file])
		}
	}
	if e, err := g.Events(); err != nil || e.OOMKills != 1 || e.MemoryMax != 1 || e.PIDsMax != 5 {
		t.Errorf("events %+v (%v)", e, err)
	}
	f.set(f.root+"/sandboxd-7/g/pids.events.local", "max 0\n")
	if e, err := g.Events(); err != nil || e.PIDsMax != 1 {
		t.Errorf("events of a kernel that sums them %+v (%v)", e, err)
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.root + "/sandboxd-7/g"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
}

// What cannot be below a leaf is refused in words, and makes nothing.
func TestGroupRefusals(t *testing.T) {
	f := newFake(t, "/")
	tree := f.tree()
	plain := mustLeaf(t, tree, "plain", ordinary)
	group := mustLeaf(t, tree, "group", Limits{PIDs: 9, Group: true})
	deep := group
	for range maxNested - 1 {
		next, err := deep.Leaf("d", Limits{Group: true})
		if err != nil {
			t.Fatal(err)
		}
		deep = next
	}
	for name, c := range map[string]struct {
		below  *Leaf
		name   string
		limits Limits
		want   string
	}{
		"no group":   {plain, "a", Limits{}, "Limits.Group"},
		"own name":   {group, self, Limits{}, "take another"},
		"bad name":   {group, "a/b", Limits{}, "letters"},
		"bad limits": {group, "a", Limits{PIDs: -1}, "negative"},
		"too deep":   {deep, "a", Limits{}, "within each other"},
		"controller": {group, "a", Limits{Account: IO}, "Limits.Account"},
		"taken":      {group, "d", Limits{}, "exists"},
	} {
		l, err := c.below.Leaf(c.name, c.limits)
		if err == nil || l != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if below, err := group.nodes()[0].children(); err != nil || len(below) != 2 { // self and d
		t.Errorf("in the group there are %v, %v", below, err)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := group.Leaf("late", Limits{}); !errors.Is(err, ErrClosed) {
		t.Errorf("below a leaf of a closed tree: %v", err)
	}
}

// sleepers forks until it is refused, which ends its inner shell, and stays.
const sleepers = "(i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done); exec sleep 1000"

// Processes of the group and of a leaf in it are counted together, killed together and removed together.
func TestGroupPIDs(t *testing.T) {
	tree := realTree(t, all3)
	outer := mustLeaf(t, tree, "outer", Limits{Memory: 256 << 20, CPUMilli: 1000, PIDs: 8, Account: all3, Group: true})
	inner, err := outer.Leaf("inner", Limits{PIDs: 30})
	if err != nil {
		t.Fatal(err)
	}
	own := start(t, outer, "", "/bin/sh", "-c", "sleep 1000 & wait")
	eventually(t, "the group's own are in", everywhere(t, outer, 2))
	if c, err := outer.Holds(own.Process.Pid); err != nil || c&all3 != all3 {
		t.Errorf("the group holds its own process by %v, %v", c, err)
	}
	if c, err := inner.Holds(own.Process.Pid); err != nil || c != 0 {
		t.Errorf("the inner leaf holds the group's process by %v, %v", c, err)
	}
	child := start(t, inner, "", "/bin/sh", "-c", sleepers)
	eventually(t, "a fork in the inner leaf is refused", func() bool { return wantEvents(t, outer).PIDsMax > 0 })
	if c, err := inner.Holds(child.Process.Pid); err != nil || c&all3 != all3 {
		t.Errorf("the inner leaf holds its process by %v, %v", c, err)
	}
	if pids, err := outer.PIDs(); err != nil || len(pids) > 8 || !slices.Contains(pids, child.Process.Pid) {
		t.Errorf("in the group are %v, %v", pids, err)
	}
	if err := outer.Remove(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("remove of what lives: %v", err)
	}
	if err := errors.Join(inner.Kill(), inner.WaitEmpty(within(t)), inner.Remove()); err != nil {
		t.Fatal(err)
	}
	if some, err := outer.Populated(); !some || err != nil {
		t.Errorf("the group ended with its inner leaf: %v, %v", some, err)
	}
	// The dead count until somebody has reaped them.
	if err := outer.SetLimits(Limits{Memory: 256 << 20, CPUMilli: 1000, PIDs: 64}); err != nil {
		t.Fatal(err)
	}
	again, err := outer.Leaf("again", Limits{PIDs: 9, Memory: 32 << 20, Group: true})
	if err != nil {
		t.Fatal(err)
	}
	third, err := again.Leaf("third", Limits{Memory: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	start(t, third, "", "/bin/sh", "-c", "setsid sleep 1000 & sleep 1000")
	eventually(t, "the third is in", everywhere(t, third, 2))
	own.Process.Kill()
	if some, err := outer.Populated(); !some || err != nil {
		t.Errorf("what lives deep in the group is not seen: %v, %v", some, err)
	}
	gone(t, outer)
	if err := errors.Join(third.Kill(), third.WaitEmpty(within(t)), third.Remove()); err != nil {
		t.Errorf("what went with the group: %v", err)
	}
	if _, err := again.Leaf("late", Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("below a group that is gone: %v", err)
	}
}

// A leaf that may use more memory than its group dies of the group's limit, and the group tells.
func TestGroupMemory(t *testing.T) {
	tree := realTree(t, Memory)
	outer := mustLeaf(t, tree, "outer", Limits{Memory: 24 << 20, Group: true})
	inner, err := outer.Leaf("inner", Limits{Memory: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, inner, "bomb")
	c.Wait()
	if s := c.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		t.Errorf("bomb ended with %v, want SIGKILL", c.ProcessState)
	}
	if e := wantEvents(t, outer); e.OOMKills < 1 {
		t.Errorf("events %+v, want OOM kills", e)
	}
	if u, err := outer.Usage(); err != nil || u.MemoryPeak < 12<<20 || u.MemoryPeak > 26<<20 {
		t.Errorf("memory peak %d (%v), want something up to the limit", u.MemoryPeak, err)
	}
	gone(t, outer)
}

// One with limits of its own dies alone.
func TestGroupInnerMemory(t *testing.T) {
	tree := realTree(t, Memory)
	outer := mustLeaf(t, tree, "outer", Limits{Memory: 256 << 20, Group: true})
	start(t, outer, "", "/bin/sleep", "1000")
	inner, err := outer.Leaf("inner", Limits{Memory: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, inner, "bomb")
	c.Wait()
	if s := c.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		t.Errorf("bomb ended with %v, want SIGKILL", c.ProcessState)
	}
	if e := wantEvents(t, inner); e.OOMKills < 1 {
		t.Errorf("events %+v, want OOM kills", e)
	}
	if some, err := outer.Populated(); !some || err != nil {
		t.Errorf("the group died of a limit that is not its own: %v, %v", some, err)
	}
	gone(t, outer)
}

// More CPU than the group may use is refused on v1; on v2 the group's limit wins.
func TestGroupCPU(t *testing.T) {
	tree := realTree(t, CPU|CPUTime)
	outer := mustLeaf(t, tree, "outer", Limits{CPUMilli: 100, Account: CPUTime, Group: true})
	n, _ := outer.at(CPU)
	inner, err := outer.Leaf("inner", Limits{CPUMilli: 900})
	if !n.unified {
		var no *Unavailable
		if !errors.As(err, &no) || no.Controller != CPU {
			t.Fatalf("%v: want that it is unavailable", err)
		}
		for _, dir := range outer.Dirs() {
			if _, err := os.Stat(path.Join(dir, "inner")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("half a leaf: %v", err)
			}
		}
		inner, err = outer.Leaf("inner", Limits{CPUMilli: 50})
	}
	if err != nil {
		t.Fatal(err)
	}
	start(t, inner, "", "/bin/sh", "-c", "while :; do :; done")
	eventually(t, "the spinner's time is the group's too", func() bool {
		u, err := outer.Usage()
		return err != nil || u.CPU > 0
	})
	eventually(t, "somebody is throttled", func() bool { return wantEvents(t, inner).Throttled > 0 || wantEvents(t, outer).Throttled > 0 })
	gone(t, outer)
}

// A dead supervisor's groups are swept with what is in them.
func TestSweepGroup(t *testing.T) {
	tree := realTree(t, all3)
	l := mustLeaf(t, tree, "outer", Limits{Memory: 64 << 20, PIDs: 16, CPUMilli: 1000, Group: true})
	for range 3 {
		next, err := l.Leaf("inner", Limits{Group: true})
		if err != nil {
			t.Fatal(err)
		}
		start(t, l, "", "/bin/sleep", "1000")
		eventually(t, "it is in", everywhere(t, l, 1)) // nothing enters what a dead supervisor left
		l = next
	}
	start(t, l, "", "/bin/sleep", "1000")
	eventually(t, "all are in", everywhere(t, l, 1))
	dirs := slices.DeleteFunc(tree.Dirs(), func(dir string) bool {
		return tree.moved != "" && strings.HasPrefix(path.Base(dir), supervisorPrefix) // we live there
	})
	if err := Sweep(tree.lease, dirs...); err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(); err != nil { // moves us back
		t.Error(err)
	}
	nothingLeft(t, tree.host, tree.lease)
}
