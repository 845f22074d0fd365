package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const all3 = Memory | PIDs | CPU

func TestOutOfMemory(t *testing.T) {
	tree := realTree(t, Memory)
	for name, swap := range map[string]int64{"no-swap": 0, "any-swap": -1} {
		if some, err := hasSwap(); err != nil || some && swap == -1 {
			continue // the bomb would fit
		}
		l := mustLeaf(t, tree, name, Limits{Memory: 16 << 20, MemorySwap: swap})
		c := start(t, l, "bomb")
		c.Wait()
		if s := c.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGKILL {
			t.Errorf("%s: bomb ended with %v, want SIGKILL", name, c.ProcessState)
		}
		e := wantEvents(t, l)
		if e.OOMKills < 1 || e.PIDsMax != -1 && !l.places[0].unified {
			t.Errorf("%s: events %+v, want OOM kills and nothing unasked", name, e)
		}
		if swap == -1 && e.MemoryMax < 1 {
			t.Errorf("%s: events %+v, want a met memory limit", name, e)
		}
		u, err := l.Usage() // per-CPU batches may overshoot by some pages
		if err != nil || u.MemoryPeak < 8<<20 || u.MemoryPeak > 17<<20 {
			t.Errorf("%s: memory peak %d (%v), want something up to the limit", name, u.MemoryPeak, err)
		}
		gone(t, l)
	}
}

func TestForkBomb(t *testing.T) {
	tree := realTree(t, PIDs)
	l := mustLeaf(t, tree, "forks", Limits{PIDs: 8})
	start(t, l, "", "/bin/sh", "-c", "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; wait")
	eventually(t, "a fork is refused", func() bool { return wantEvents(t, l).PIDsMax > 0 })
	u, err := l.Usage()
	if err != nil || u.PIDsPeak != 8 && u.PIDsPeak != -1 {
		t.Errorf("pids peak %d (%v), want 8", u.PIDsPeak, err)
	}
	gone(t, l)
}

func TestCPU(t *testing.T) {
	tree := realTree(t, CPU|CPUTime)
	l := mustLeaf(t, tree, "spin", Limits{CPUMilli: 100, Account: CPUTime})
	start(t, l, "", "/bin/sh", "-c", "while :; do :; done")
	eventually(t, "the spinner is throttled", func() bool {
		e := wantEvents(t, l)
		return e.Throttled > 0 && e.ThrottleTime > 0
	})
	var u Usage
	eventually(t, "user time is counted", func() bool { // by the tick, so that the first slice may count as the system's
		var err error
		u, err = l.Usage()
		return err != nil || u.CPUUser > 0
	})
	if u.CPU <= 0 || u.CPUUser <= 0 || u.CPUSystem < 0 {
		t.Errorf("usage %+v, want CPU time", u)
	}
	// A v2 directory measures whatever is handed down to it.
	if !l.places[0].unified && (u.MemoryPeak != -1 || u.ReadBytes != -1) {
		t.Errorf("usage %+v, want nothing unasked", u)
	}
	gone(t, l)
}

// A daemon that left its session and its parent is as dead as the rest.
func TestKillTree(t *testing.T) {
	tree := realTree(t, all3)
	l := mustLeaf(t, tree, "family", Limits{Memory: 64 << 20, PIDs: 32, CPUMilli: 1000})
	c := start(t, l, "", "/bin/sh", "-c", "setsid sh -c 'sleep 1000 & sleep 1000' & (sleep 1000 &) ; sleep 1000")
	eventually(t, "the family is complete", everywhere(t, l, 5))
	some, err := l.Populated()
	if err != nil || !some {
		t.Fatalf("populated: %v, %v", some, err)
	}
	before, err := l.PIDs()
	if err != nil || len(before) < 5 {
		t.Fatalf("pids: %v, %v", before, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("tired of waiting")
	cancel(why)
	if err := l.WaitEmpty(ctx); !errors.Is(err, why) || !strings.Contains(err.Error(), "holds processes [") {
		t.Errorf("wait on a living leaf: %v, want who is left and the cause", err)
	}
	if err := l.Remove(); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "still holds processes [") {
		t.Errorf("remove of a living leaf: %v, want EBUSY and who is left", err)
	}
	if err := l.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitEmpty(within(t)); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if some, err := l.Populated(); some || err != nil {
		t.Errorf("populated after kill: %v, %v", some, err)
	}
	gone(t, l)
	if err := errors.Join(l.Remove(), l.Kill(), tree.Close(), tree.Close()); err != nil {
		t.Errorf("second removal and close: %v", err)
	}
	if _, err := tree.Leaf("late", Limits{PIDs: 1}); !errors.Is(err, ErrClosed) {
		t.Errorf("leaf of a closed tree: %v", err)
	}
	if _, _, err := l.Join(); !errors.Is(err, ErrClosed) {
		t.Errorf("join after close: %v", err)
	}
}

// Without cgroup.kill the same is done pid by pid.
func TestHunt(t *testing.T) {
	tree := realTree(t, all3)
	l := mustLeaf(t, tree, "prey", Limits{Memory: 64 << 20, PIDs: 64, CPUMilli: 1000})
	start(t, l, "", "/bin/sh", "-c", "while :; do (setsid sleep 1000 &) ; done 2>/dev/null")
	eventually(t, "there is prey", everywhere(t, l, 20))
	if err := l.hold(func() error { return hunt(l.nodes(), map[int]bool{}) }); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitEmpty(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(); err != nil {
		t.Fatal(err)
	}
}

// A process that is in the v1 directories alone is killed as well.
func TestKillOutsideV2(t *testing.T) {
	tree := realTree(t, all3|Unified)
	l := mustLeaf(t, tree, "half", Limits{Memory: 64 << 20, PIDs: 32, CPUMilli: 1000})
	if len(l.places) == 1 {
		t.Skip("does not apply: this host has no v1 directories to be in")
	}
	whole := l.places
	l.places = whole[1:]
	start(t, l, "", "/bin/sleep", "1000")
	eventually(t, "the child is in", everywhere(t, l, 1))
	l.places = whole
	gone(t, l)
}

func TestLimitsReadBack(t *testing.T) {
	tree := realTree(t, all3)
	l := mustLeaf(t, tree, "set", Limits{Account: all3})
	for _, want := range []Limits{
		{},
		{Memory: 64 << 20, MemorySwap: 64 << 20, PIDs: 9, CPUMilli: 1500},
		{Memory: 16 << 20, MemorySwap: 32 << 20, PIDs: 1, CPUMilli: 1},
		{Memory: 128 << 20, MemorySwap: -1, CPUMilli: 5},
		{Memory: 256 << 20, MemorySwap: 256 << 20, PIDs: 4 << 20},
		{},
	} {
		if err := l.SetLimits(want); err != nil {
			t.Fatalf("set %+v: %v", want, err)
		}
		got, err := l.Limits()
		want.Account = got.Account
		if err != nil || got != want {
			t.Errorf("read back %+v (%v), want %+v", got, err, want)
		}
	}
	if err := l.SetLimits(Limits{Memory: 10<<20 + 1}); err != nil {
		t.Fatal(err)
	}
	got, err := l.Limits()
	if err != nil || got.Memory != 10<<20 || got.MemorySwap != got.Memory {
		t.Errorf("10 MiB and a byte became %+v (%v), want whole pages and no swap", got, err)
	}

	bare := mustLeaf(t, tree, "bare", Limits{PIDs: 5})
	err = bare.SetLimits(Limits{Memory: 1 << 20})
	if _, has := bare.at(Memory); has != (err == nil) || err != nil && !strings.Contains(err.Error(), "Limits.Account") {
		t.Errorf("limit memory of a leaf which has it (%v): %v", has, err)
	}
}

func TestLeafNameTaken(t *testing.T) {
	tree := realTree(t, PIDs)
	mustLeaf(t, tree, "one", Limits{PIDs: 1})
	if _, err := tree.Leaf("one", Limits{PIDs: 1}); !errors.Is(err, os.ErrExist) {
		t.Errorf("same name twice: %v", err)
	}
	twin, err := tree.host.Tree(tree.lease)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := twin.Leaf("two", Limits{PIDs: 1}); !errors.Is(err, os.ErrExist) {
		t.Errorf("same lease twice: %v", err)
	}
	if err := twin.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(tree.places[0].abs); err != nil {
		t.Errorf("the other tree's folder: %v", err)
	}
}

// Half a leaf is no leaf.
func TestLeafUndone(t *testing.T) {
	tree := realTree(t, all3)
	first := mustLeaf(t, tree, "first", Limits{Memory: 1 << 20, PIDs: 1, CPUMilli: 1000})
	if len(first.places) == 1 {
		t.Skip("does not apply: a leaf on this host is a single directory")
	}
	last := first.places[len(first.places)-1]
	if err := unix.Mkdirat(last.fd, "taken", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Leaf("taken", Limits{Memory: 1 << 20, PIDs: 1, CPUMilli: 1000}); !errors.Is(err, os.ErrExist) {
		t.Fatalf("leaf over a stranger's directory: %v", err)
	}
	for _, p := range first.places[:len(first.places)-1] {
		if _, err := os.Stat(p.abs + "/taken"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("half a leaf at %s: %v", p.abs, err)
		}
	}
}

// What an actor made below its own cgroup goes with it.
func TestNested(t *testing.T) {
	tree := realTree(t, PIDs)
	l := mustLeaf(t, tree, "deep", Limits{PIDs: 8})
	for _, dir := range l.Dirs() {
		if err := os.MkdirAll(path.Join(dir, "a/b/c"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(path.Join(dir, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, l)
}

// Sweep is Close by someone else, after a death.
func TestSweep(t *testing.T) {
	tree := realTree(t, all3)
	l := mustLeaf(t, tree, "orphan", Limits{Memory: 64 << 20, PIDs: 16, CPUMilli: 1000})
	start(t, l, "", "/bin/sh", "-c", "setsid sleep 1000 & sleep 1000")
	eventually(t, "two processes", everywhere(t, l, 2))

	outside := path.Dir(path.Dir(l.Dirs()[0]))
	for _, dir := range []string{"/tmp", outside, l.Dirs()[0], outside + "/./" + path.Base(path.Dir(l.Dirs()[0]))} {
		if err := Sweep(tree.lease, dir); err == nil || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("sweep of %s: %v, want a refusal", dir, err)
		}
	}
	if some, err := l.Populated(); !some || err != nil {
		t.Fatalf("after refused sweeps: populated %v, %v", some, err)
	}
	if err := Sweep(tree.lease); err != nil { // one who noted nothing made nothing
		t.Fatal(err)
	}
	if some, err := l.Populated(); !some || err != nil {
		t.Fatalf("after a sweep of nothing: populated %v, %v", some, err)
	}
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
	if err := Sweep(tree.lease, tree.Dirs()...); err != nil {
		t.Errorf("second sweep: %v", err)
	}
}

func TestHas(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	asUser(t, func() {
		err := h.Has(all3)
		var no *Unavailable
		if err != nil && (!errors.As(err, &no) || no.Observed == "" || no.Remedy == "" || no.Controller == 0) {
			t.Errorf("an ordinary user is told %v, want an explained *Unavailable", err)
		}
		t.Logf("ordinary user: %v", err)
	})
}

// On the kernel's own files: this process and its child leave a cgroup
// together, and a stranger in it is not ours to move.
func TestMoveAsideReal(t *testing.T) {
	tree := realTree(t, Unified)
	h := tree.host
	dir := path.Join(h.v2.own, folderPrefix+tree.lease)
	if err := h.mkdir(unix.AT_FDCWD, dir); err != nil {
		t.Fatal(err)
	}
	me, back := strconv.Itoa(os.Getpid()), nodeAt(h.v2.own, true)
	join := func(n node) {
		if err := n.write("cgroup.procs", me); err != nil {
			t.Fatal(err)
		}
	}
	join(nodeAt(dir, true))
	child := exec.Command("/bin/sleep", "1000")
	err := child.Start()
	join(back)
	t.Cleanup(func() {
		child.Process.Kill()
		child.Wait()
		join(back)
		if err := h.clear(nodeAt(dir, true)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	join(nodeAt(dir, true))
	if why := notAlone(dir); why != "" {
		t.Errorf("with a child: %s", why)
	}
	inside := &Host{v2: &hierarchy{root: h.v2.root, own: dir}, mkdir: h.mkdir, rmdir: h.rmdir}
	if err := inside.moveAside(dir, "x"); err != nil {
		t.Fatal(err)
	}
	aside, err := nodeAt(dir+"/"+supervisorPrefix+"x", true).procs()
	left, err2 := nodeAt(dir, true).procs()
	if want := []int{os.Getpid(), child.Process.Pid}; errors.Join(err, err2) != nil || len(aside) != 2 || !slices.Contains(aside, want[0]) || !slices.Contains(aside, want[1]) || len(left) > 0 {
		t.Errorf("aside %v (%v), left %v (%v), want %v aside", aside, err, left, err2, want)
	}
	if err := inside.moveBack(dir, "x", 0); err != nil {
		t.Fatal(err)
	}
	if got, err := nodeAt(dir, true).procs(); err != nil || len(got) != 2 || inside.v2.own != dir {
		t.Errorf("moved back: %v (%v), own cgroup %s", got, err, inside.v2.own)
	}
	if startedByUs(1) || startedByUs(os.Getppid()) || startedByUs(0) {
		t.Error("a stranger is taken for our child")
	}
}

// What a leaf leaves in the page cache counts as its writes on v2, whoever has
// it written at last; on v1 as those of that one.
func TestIO(t *testing.T) {
	tree := realTree(t, Memory|IO)
	dir := t.TempDir()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if unix.Major(st.Dev) == 0 {
		t.Skipf("does not apply: %s is on no block device", dir)
	}
	const size = 4 << 20
	l := mustLeaf(t, tree, "io", Limits{Account: Memory | IO})
	c := start(t, l, "", "/bin/sh", "-ec", `cd "$0"; dd() { /bin/dd bs=1M "$@"; }
		dd if=/dev/zero of=late count=4; dd if=/dev/zero of=direct oflag=direct count=4; dd if=direct of=/dev/null iflag=direct`, dir)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	u, err := l.Usage()
	n, _ := l.at(IO)
	if u.ReadBytes == -1 && !n.unified {
		t.Skip("does not apply: cgroup v1 of this kernel counts no bytes of block devices")
	}
	if err != nil || u.ReadBytes < size || u.WriteBytes < size {
		t.Errorf("usage %+v (%v), want %d bytes read and written", u, err, size)
	}
	late, err := os.Open(dir + "/late")
	if err == nil {
		err = errors.Join(late.Sync(), late.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err = l.Usage()
	if err != nil || n.unified != (u.WriteBytes >= 2*size) {
		t.Errorf("usage %+v (%v), and %d more bytes were written of which v2 alone knows", u, err, size)
	}
	gone(t, l)
}
