package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
)

func find(t *testing.T, e *Explanation, name string) Limit {
	t.Helper()
	for _, l := range e.Limits {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no limit %q in %+v", name, e.Limits)
	return Limit{}
}

// Explain needs no privileges, and tells written values from defaults.
func TestExplain(t *testing.T) {
	e, err := Explain(Spec{Argv: []string{"id", "-u"}, Limits: Limits{FileSize: 1 << 20, Output: Unlimited, Ulimits: []Ulimit{{"nofile", 64, 64}}}}, Options{Only: &Spec{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Limit{
		{"file-size", "1 MiB", "required", "RLIMIT_FSIZE"},
		{"output-limit", "", "off", ""},
		{"ulimit nofile", "64:64", "required", "setrlimit(2)"},
		{"ulimit core", "0:0", "default", "setrlimit(2)"},
		{"timeout", "", "off", ""},
	} {
		if got := find(t, e, want.Name); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	var names []string
	for _, s := range e.Sections {
		names = append(names, s.Name)
		if s.Runs == "" {
			t.Errorf("section %s does not say who runs it", s.Name)
		}
	}
	if strings.Join(names, " ") != "setup prepare before after" {
		t.Errorf("sections: %q", names)
	}
	after := e.Sections[3].Steps
	if last := after[len(after)-1].Words(); last != "run id" {
		t.Errorf("the last step is %q", last)
	}
	if _, err := json.Marshal(e); err != nil {
		t.Error(err)
	}
}

func TestExplainProcess(t *testing.T) {
	e, err := Explain(Spec{Argv: []string{"id"}, Backend: "process"}, Options{Only: &Spec{}})
	if err != nil {
		t.Fatal(err)
	}
	if l := find(t, e, "disk"); l.State != "missing" || l.By != "" {
		t.Errorf("disk: %+v", l)
	}
	if len(e.Sections) != 4 || len(e.Sections[0].Steps) != 0 {
		t.Errorf("sections: %+v", e.Sections)
	}
}

// What Start refuses, Explain refuses by the same words.
func TestExplainRefuses(t *testing.T) {
	s := Spec{Argv: []string{"id"}, Backend: "process", Limits: Limits{Disk: 1 << 20}}
	if _, err := Explain(s, Options{}); !errors.Is(err, ErrUnenforceable) {
		t.Errorf("got %v", err)
	}
	s.BestEffort = true
	e, err := Explain(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l := find(t, e, "disk"); l.State != "missing" {
		t.Errorf("disk: %+v", l)
	}
}

// realLeaf is a leaf on this host with the default limits.
func realLeaf(t *testing.T) (*Host, *resolved, *cgroup.Leaf) {
	t.Helper()
	h := bare()
	h.cgroups, h.noCgroup = cgroup.Detect()
	err := h.noCgroup
	if err == nil {
		err = h.cgroups.Has(cgroup.Memory | cgroup.PIDs | cgroup.CPU)
	}
	if err != nil {
		hosttest.Lack(t, "cgroups for this user: %v", err)
	}
	r, err := h.resolve(Spec{Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := h.cgroups.Tree(fmt.Sprintf("test-sandbox-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	leaf, err := tree.Leaf("a", r.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	return h, r, leaf
}

// A limit is held only if the kernel shows it for the very process: one that
// is in no more than the v2 directory of a leaf is not bound by its v1 limits.
func TestLimitsHeld(t *testing.T) {
	h, r, leaf := realLeaf(t)
	files, into, err := leaf.Join()
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(append(files, into)...)
	c := exec.Command("sleep", "1000")
	if into != nil {
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(into.Fd())}
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	var v2 []string // that much of the leaf it is in
	for i, controller := range []cgroup.Controller{cgroup.Memory, cgroup.PIDs, cgroup.CPU} {
		if !h.cgroups.V1(controller) {
			v2 = append(v2, []string{"memory", "pids", "cpus"}[i])
		}
	}
	want := strings.Join(v2, " ")
	r.request.Rlimits = []spawn.Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 7, Hard: 7}}
	if held := strings.Join(r.limitsHeld(c.Process.Pid, leaf), " "); held != want {
		t.Errorf("held %q, want %q", held, want)
	}
	for name := range strings.FieldsSeq("memory pids cpus nofile disk") {
		if r.lacks(name) == strings.Contains(want, name) {
			t.Errorf("missing: %+v", r.missing)
		}
	}
}

// What no cgroup could hold is a mistake in the Spec, also to Explain.
func TestLimitsThatContradict(t *testing.T) {
	h, _, _ := realLeaf(t)
	for _, l := range []Limits{{Memory: 1}, {Memory: 64 << 20, MemorySwap: 32 << 20}, {MemorySwap: -5}} {
		if _, err := h.resolve(Spec{Argv: []string{"true"}, Limits: l}); !errors.Is(err, ErrSpec) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}

// Where v1 holds us to less than the default number of CPUs, the default gives
// way and the report says so; a number that somebody wrote does not.
func TestFewerCPUsThanDefault(t *testing.T) {
	_, _, leaf := realLeaf(t)
	dirs := leaf.Dirs()
	i := slices.IndexFunc(dirs, func(d string) bool { _, err := os.Stat(d + "/cpu.cfs_quota_us"); return err == nil })
	if i < 0 {
		t.Skip("does not apply: no v1 controller of CPU here, and v2 lets the tighter limit win by itself")
	}
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write(dirs[i]+"/cpu.cfs_quota_us", "50000")
	me := strconv.Itoa(os.Getpid())
	write(dirs[i]+"/cgroup.procs", me)
	defer write(filepath.Dir(filepath.Dir(dirs[i]))+"/cgroup.procs", me)
	for cpus, lacks := range map[float64]bool{0: true, 0.25: false, 0.75: false} {
		h := bare()
		h.cgroups, h.noCgroup = cgroup.Detect()
		var err error
		if h.tree, err = h.cgroups.Tree(fmt.Sprintf("test-sandbox-below-%d", os.Getpid())); err != nil {
			t.Fatal(err)
		}
		r, err := h.resolve(Spec{Argv: []string{"true"}, Limits: Limits{CPUs: cpus}})
		if err != nil {
			t.Fatal(err)
		}
		a := &Process{host: h, res: r, n: 1}
		if _, err := a.makeLeaf(); (err != nil) != (cpus == 0.75) || r.lacks("cpus") != lacks {
			t.Errorf("%v CPUs: %v, missing %+v", cpus, err, r.missing)
		}
		if err := h.tree.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The number of cgroups that Explain says an actor enters is that of a real leaf.
func TestExplainedHierarchiesAreReal(t *testing.T) {
	h, r, leaf := realLeaf(t)
	tasks, unified := h.cgroups.Ways(r.cgroup)
	files, into, err := leaf.Join()
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(append(files, into)...)
	if tasks != len(files) || unified != (into != nil) {
		t.Errorf("explained %d tasks files and a v2 directory: %v; there are %d, %v", tasks, unified, len(files), into != nil)
	}
}
