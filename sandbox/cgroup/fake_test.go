package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// asUser runs f on a thread of an ordinary user. The thread is not used again.
func asUser(t *testing.T, f func()) {
	t.Helper()
	var errno syscall.Errno
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Geteuid() == 0 {
			if _, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 1500, ^uintptr(0)); errno != 0 {
				return
			}
		}
		f()
	}()
	<-done
	if errno != 0 {
		hosttest.Lack(t, "a way to another user id: %v", errno)
	}
}

// fake is a unified hierarchy of plain files, with the own cgroup at own. The
// kernel's share of the work is done by mkdir and rmdir.
type fake struct {
	t    *testing.T
	root string
	host *Host
}

const leafFiles = "memory.max memory.swap.max memory.oom.group memory.peak memory.events pids.max pids.peak pids.events cpu.max cpu.stat io.stat cgroup.kill"

func newFake(t *testing.T, own string) *fake {
	t.Helper()
	f := &fake{t: t, root: t.TempDir()}
	f.chmod(filepath.Dir(f.root)) // so that an ordinary user may pass
	f.host = parse("30 23 0:26 / "+f.root+" rw - cgroup2 cgroup2 rw\n", "0::"+own+"\n")
	f.host.mkdir = func(dir int, path string) error {
		if dir != unix.AT_FDCWD {
			at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(dir))
			if err != nil {
				return err
			}
			path = filepath.Join(at, path)
		}
		return f.mkdir(path)
	}
	f.host.rmdir = func(dir int, path string) error {
		if dir != unix.AT_FDCWD {
			at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(dir))
			if err != nil {
				return err
			}
			path = filepath.Join(at, path)
		}
		return f.rmdir(path)
	}
	f.fill(f.root)
	os.Remove(f.root + "/cgroup.events") // the true root has none
	for at := ""; own != "/" && at != own; {
		next, _, _ := strings.Cut(strings.TrimPrefix(own, at)[1:], "/")
		at += "/" + next
		if err := f.mkdir(f.root + at); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *fake) chmod(path string) {
	if err := os.Chmod(path, 0o777); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) mkdir(path string) error {
	if err := os.Mkdir(path, 0o777); err != nil {
		return err
	}
	f.fill(path)
	return nil
}

func (f *fake) fill(path string) {
	f.chmod(path)
	for name := range strings.FieldsSeq("cgroup.procs cgroup.subtree_control " + leafFiles) {
		f.set(filepath.Join(path, name), "")
	}
	f.set(filepath.Join(path, "cgroup.controllers"), "cpuset cpu io memory pids\n")
	f.set(filepath.Join(path, "cgroup.events"), "populated 0\nfrozen 0\n")
}

func (f *fake) rmdir(path string) error {
	if procs, err := os.ReadFile(path + "/cgroup.procs"); err == nil && len(procs) > 0 {
		return unix.EBUSY
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			return unix.EBUSY
		}
	}
	return os.RemoveAll(path)
}

func (f *fake) set(path, text string) {
	f.t.Helper()
	_, err := os.Stat(path)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		f.t.Fatal(err)
	}
	if err != nil { // new: the umask took the group's and others' part
		f.chmod(path)
	}
}

func (f *fake) want(path, text string) {
	f.t.Helper()
	got, err := os.ReadFile(f.root + path)
	if err != nil || string(got) != text {
		f.t.Errorf("%s holds %q (%v), want %q", path, got, err, text)
	}
}

func (f *fake) tree() *Tree {
	f.t.Helper()
	tree, err := f.host.Tree("7")
	if err != nil {
		f.t.Fatal(err)
	}
	return tree
}

var ordinary = Limits{Memory: 64 << 20, PIDs: 32, CPUMilli: 500}

// The files of a v2 leaf, as cgroup-v2.rst has them, and back again.
func TestUnifiedFormats(t *testing.T) {
	f := newFake(t, "/")
	tree := f.tree()
	l := mustLeaf(t, tree, "a", ordinary)
	f.want("/cgroup.subtree_control", "+memory +pids +cpu") // the true root: not io, which nobody asked for
	f.want("/sandboxd-7/cgroup.subtree_control", "+memory +pids +cpu")
	f.want("/sandboxd-7/a/memory.max", "67108864")
	f.want("/sandboxd-7/a/memory.swap.max", "0")
	f.want("/sandboxd-7/a/memory.oom.group", "1")
	f.want("/sandboxd-7/a/pids.max", "32")
	f.want("/sandboxd-7/a/cpu.max", "50000 100000")

	tasks, into, err := l.Join()
	if err != nil || len(tasks) != 0 || into == nil || into.Name() != f.root+"/sandboxd-7/a/." {
		t.Fatalf("join: %v, %v, %v", tasks, into, err)
	}
	into.Close()

	leaf := f.root + "/sandboxd-7/a/"
	got, err := l.Limits()
	want := Limits{Memory: 64 << 20, MemorySwap: 64 << 20, PIDs: 32, CPUMilli: 500, Account: Memory | PIDs | CPU | CPUTime | Unified}
	if err != nil || got != want {
		t.Errorf("limits %+v (%v), want %+v", got, err, want)
	}
	f.set(leaf+"memory.max", "max\n")
	f.set(leaf+"memory.swap.max", "max\n")
	f.set(leaf+"pids.max", "max\n")
	f.set(leaf+"cpu.max", "max 100000\n")
	if got, err := l.Limits(); err != nil || got != (Limits{Account: want.Account}) {
		t.Errorf("unlimited is %+v (%v)", got, err)
	}
	for file, text := range map[string]string{
		"memory.peak": "1048576\n", "memory.events": "low 0\nhigh 0\nmax 5\noom 2\noom_kill 3\noom_group_kill 1\n",
		"pids.peak": "7\n", "pids.events": "max 4\n",
		"cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 9\nnr_throttled 8\nthrottled_usec 70\n",
	} {
		f.set(leaf+file, text)
	}
	u, err := l.Usage()
	if want := (Usage{1 << 20, 7, 30_000, 20_000, 10_000, -1, -1}); err != nil || u != want {
		t.Errorf("usage %+v (%v), want %+v", u, err, want)
	}
	e, err := l.Events()
	if want := (Events{3, 5, 4, 8, 70_000}); err != nil || e != want {
		t.Errorf("events %+v (%v), want %+v", e, err, want)
	}
	os.Remove(leaf + "memory.peak") // kernel 5.18
	os.Remove(leaf + "pids.peak")   // kernel 6.1
	if u, err := l.Usage(); err != nil || u.MemoryPeak != -1 || u.PIDsPeak != -1 {
		t.Errorf("usage on an old kernel %+v (%v)", u, err)
	}

	f.set(leaf+"memory.swap.max", "")
	if err := l.SetLimits(Limits{Memory: 1 << 20, MemorySwap: 3 << 20, CPUMilli: 5}); err != nil {
		t.Fatal(err)
	}
	f.want("/sandboxd-7/a/memory.swap.max", "2097152")
	if got, err := os.ReadFile(leaf + "cpu.max"); err != nil || !strings.HasPrefix(string(got), "5000 1000000") {
		t.Errorf("cpu.max %q (%v), want the long period", got, err)
	}

	io := mustLeaf(t, tree, "io", Limits{Account: IO})
	f.set(f.root+"/sandboxd-7/io/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:0 rbytes=10 wbytes=20\n7:0\n")
	if r, w, err := io.places[0].leaf("io").io(); err != nil || r != 11 || w != 22 {
		t.Errorf("io %d, %d, %v", r, w, err)
	}
	for file, text := range map[string]string{"cpu.stat": "usage_usec many\n", "memory.events": "max\n", "io.stat": "8:0 rbytes=-\n"} {
		f.set(f.root+"/sandboxd-7/io/"+file, text)
	}
	if _, err := io.Usage(); err == nil {
		t.Error("nonsense in cpu.stat passes")
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(f.root + "/sandboxd-7"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder after close: %v", err)
	}
}

// A delegated cgroup that holds only us is divided, and put together again.
func TestMoveAside(t *testing.T) {
	const own = "/user.slice/run.scope"
	for _, who := range []string{"root", "user"} {
		t.Run(who, func(t *testing.T) {
			f := newFake(t, own)
			me := strconv.Itoa(os.Getpid())
			f.set(f.root+own+"/cgroup.procs", me+"\n")
			run := func() {
				tree := f.tree()
				mustLeaf(t, tree, "a", ordinary)
				f.want(own+"/sandboxd-supervisor-7/cgroup.procs", me)
				f.want(own+"/cgroup.subtree_control", "+memory +pids +cpu +io")
				f.want(own+"/sandboxd-7/cgroup.subtree_control", "+memory +pids +cpu +io")
				f.want(own+"/sandboxd-7/a/pids.max", "32")
				f.set(f.root+own+"/cgroup.procs", "")
				f.set(f.root+own+"/cgroup.subtree_control", "memory pids cpu io\n")

				// Another tree of this process, or a supervisor started by us.
				second, err := f.host.Tree("8")
				if err != nil {
					t.Fatal(err)
				}
				mustLeaf(t, second, "b", ordinary)
				f.want(own+"/sandboxd-8/b/pids.max", "32")
				if err := second.Close(); err != nil {
					t.Error(err)
				}

				f.set(f.root+own+"/cgroup.subtree_control", "")
				aside := f.root + own + "/sandboxd-supervisor-7/cgroup.procs"
				f.host.rmdir = emptying(f, aside)
				if err := tree.Close(); err != nil {
					t.Error(err)
				}
				f.want(own+"/cgroup.procs", me)
				f.want(own+"/cgroup.subtree_control", "-memory -pids -cpu -io")
				for _, left := range []string{"/sandboxd-7", "/sandboxd-8", "/sandboxd-supervisor-7"} {
					if _, err := os.Stat(f.root + own + left); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("%s after close: %v", left, err)
					}
				}
			}
			if who == "user" {
				asUser(t, run)
				return
			}
			hosttest.NeedRoot(t)
			// Root goes by what systemd noted, here on a cgroup above.
			if err := unix.Setxattr(f.root+"/user.slice", "trusted.delegate", []byte("1"), 0); err != nil {
				hosttest.Lack(t, "trusted extended attributes: %v", err)
			}
			run()
		})
	}
}

// emptying plays the kernel's part of moving: a pid written elsewhere is gone
// from here.
func emptying(f *fake, procs string) func(int, string) error {
	return func(dir int, path string) error {
		if filepath.Dir(procs) == path {
			f.set(procs, "")
		}
		return f.rmdir(path)
	}
}

// As root in a cgroup of someone else's, the root of the hierarchy serves.
func TestBelowRoot(t *testing.T) {
	hosttest.NeedRoot(t)
	f := newFake(t, "/system.slice/x.service")
	tree := f.tree()
	if got, want := strings.Join(tree.Dirs(), " "), strings.ReplaceAll("R/system.slice/x.service/sandboxd-7 R/sandboxd-7 R/system.slice/x.service/sandboxd-supervisor-7", "R", f.root); got != want {
		t.Errorf("dirs %s, want %s", got, want)
	}
	l := mustLeaf(t, tree, "a", ordinary)
	if got := l.Dirs(); len(got) != 1 || got[0] != f.root+"/sandboxd-7/a" {
		t.Errorf("leaf in %v, want it below the root", got)
	}
	plain := mustLeaf(t, tree, "b", Limits{})
	if got := plain.Dirs(); len(got) != 1 || got[0] != f.root+"/system.slice/x.service/sandboxd-7/b" {
		t.Errorf("leaf without limits in %v, want it below our own cgroup", got)
	}
	if err := plain.SetLimits(Limits{PIDs: 1}); err == nil || !strings.Contains(err.Error(), "Limits.Account") {
		t.Errorf("limit of a leaf without: %v", err)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
}

// The one leaf needs no folder, save below the true root: systemd, which knows
// nothing of us, takes a controller back that no folder hands down further.
func TestSolo(t *testing.T) {
	for limits, want := range map[Limits]string{ordinary: "/sandboxd-7/sandboxd-7", {}: "/sandboxd-7"} {
		f := newFake(t, "/")
		tree, err := f.host.Solo("7")
		if err != nil {
			t.Fatal(err)
		}
		l := mustLeaf(t, tree, "a", limits)
		if got := l.Dirs(); len(got) != 1 || got[0] != f.root+want {
			t.Errorf("leaf in %v, want %s", got, want)
		}
		if limits == ordinary {
			f.want("/sandboxd-7/cgroup.subtree_control", "+memory +pids +cpu")
			f.want("/sandboxd-7/sandboxd-7/cpu.max", "50000 100000")
		}
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(f.root + "/sandboxd-7"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after close: %v", err)
		}
	}
}

// Each refusal says what was seen and what to do.
func TestUnavailable(t *testing.T) {
	const own = "/user.slice/run.scope"
	for name, c := range map[string]struct {
		spoil func(*fake)
		want  string
	}{
		"company":         {func(f *fake) { f.set(f.root+own+"/cgroup.procs", "1\n") }, "process 1 is in our own cgroup"},
		"not writable":    {func(f *fake) { os.Chmod(f.root+own+"/cgroup.subtree_control", 0o444) }, "is not writable for uid"},
		"few controllers": {func(f *fake) { f.set(f.root+own+"/cgroup.controllers", "memory pids\n") }, `no cpu here: `},
	} {
		f := newFake(t, own)
		c.spoil(f)
		asUser(t, func() {
			tree := f.tree()
			_, err := tree.Leaf("a", ordinary)
			var no *Unavailable
			if !errors.As(err, &no) || !strings.Contains(err.Error(), c.want) || !strings.Contains(no.Remedy, "Delegate") {
				t.Errorf("%s: %v, want %q and a remedy", name, err, c.want)
			}
			if err := f.host.Has(Memory | CPU); err == nil {
				t.Errorf("%s: has, but cannot", name)
			}
			if _, err := os.Stat(f.root + own + "/sandboxd-supervisor-7"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: moved aside for nothing (%v)", name, err)
			}
			if err := tree.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	none := parse("", "")
	if err := none.Has(Memory); err == nil || !strings.Contains(err.Error(), "mount") {
		t.Errorf("a host without cgroups: %v", err)
	}
}
