package bench

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// Every kind that can be leaked here is leaked, and found by name.
func TestLeaksAreFound(t *testing.T) {
	dir := t.TempDir()
	before, err := TakeSnapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := "leak-test-" + filepath.Base(filepath.Dir(dir))
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	sock, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	stop := make(chan struct{})
	defer close(stop)
	go func() { <-stop }()
	sleeper := exec.Command("sleep", "600")
	zombie := exec.Command("sleep", "0")
	for _, c := range []*exec.Cmd{sleeper, zombie} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := sleeper.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = sleeper.Wait() // says that it was killed
		if err := zombie.Wait(); err != nil {
			t.Error(err)
		}
	}()
	want := []struct {
		kind int
		text string
	}{
		{kindFile, file},
		{kindFD, file},
		{kindSocket, filepath.Join(dir, "s")},
		{kindGoroutine, "goroutine"},
		{kindProcess, "sleep (pid"},
		{kindZombie, "sleep (pid"},
	}
	all, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	if folders, err := limitFolders(all, name); err == nil {
		defer func() {
			if err := sweepCgroups(all, name); err != nil {
				t.Error(err)
			}
		}()
		for _, folder := range folders {
			want = append(want, struct {
				kind int
				text string
			}{kindCgroup, folder})
		}
	} else {
		t.Log(err)
	}
	found := func() (missing []string) {
		after, err := TakeSnapshot(dir)
		if err != nil {
			t.Fatal(err)
		}
		leaks := after.Since(before)
		for _, w := range want {
			if !strings.Contains(strings.Join(leaks[w.kind].New, "\n"), w.text) {
				missing = append(missing, kindNames[w.kind]+": "+w.text)
			}
		}
		return missing
	}
	// The zombie takes a moment to become one.
	for deadline := time.Now().Add(hosttest.Patience(10)); len(found()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not found: %q", found())
		}
	}
}

func TestSnapshotOfNothingNew(t *testing.T) {
	dir := t.TempDir()
	before, err := TakeSnapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "brief")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = os.Remove(file) // its absence is what the test waits for
	}()
	leaks, err := before.AwaitClean(t.Context(), hosttest.Patience(10))
	if err != nil {
		t.Fatal(err)
	}
	// Strangers may come and go in the other kinds.
	for _, k := range []int{kindFile, kindFD, kindGoroutine} {
		if len(leaks[k].New) > 0 {
			t.Errorf("left: %+v", leaks[k])
		}
	}
}

// A whole run with every peer leaves nothing of this process behind.
func TestRunLeavesNothing(t *testing.T) {
	before, err := TakeSnapshot(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWorkspace()
	if err != nil {
		t.Fatal(err)
	}
	subjects := peers(w)
	run, err := Interleave(t.Context(), subjects, Options{Rounds: 2, Warmup: -1})
	closeErr := w.Close()
	if err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	if err := w.Close(); err != nil {
		t.Errorf("the second close: %v", err)
	}
	if len(run.Results) == 0 {
		t.Fatalf("nothing ran: %+v", run.Skipped)
	}
	leaks, err := before.AwaitClean(t.Context(), hosttest.Patience(5))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leaks {
		for _, item := range l.New {
			ours := l.Kind == kindNames[kindFD] || l.Kind == kindNames[kindGoroutine] || strings.Contains(item, w.folder) ||
				strings.HasPrefix(item, tinyName+" (") || strings.HasPrefix(item, "bare (")
			if ours {
				t.Errorf("left of %s: %s", l.Kind, item)
			} else {
				t.Logf("new meanwhile, of somebody else: %s: %s", l.Kind, item)
			}
		}
	}
}

func TestMemoryGrows(t *testing.T) {
	before, err := ReadMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Not from the heap, which the race detector shadows.
	held, err := unix.Mmap(-1, 0, 64<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	after, err := ReadMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Munmap(held); err != nil {
		t.Error(err)
	}
	each := after.PerActor(before, 4)
	if each.PSS < 14<<20 || each.PSS > 24<<20 {
		t.Errorf("each of 4 grew by %d bytes of PSS; want about 16 MiB", each.PSS)
	}
	if m := (Memory{Slab: 1, PageTables: 2, KernelStack: 4, Percpu: 8, Anon: 16, PSS: 32}); m.Sum() != 47 {
		t.Errorf("the sum with PSS is %d", m.Sum())
	}
	if m := (Memory{Slab: 1, PageTables: 2, KernelStack: 4, Percpu: 8, Anon: 16}); m.Sum() != 31 {
		t.Errorf("the sum without PSS is %d", m.Sum())
	}
	if _, err := ReadMemory(1 << 30); err != nil {
		t.Errorf("a process that is gone: %v", err)
	}
}
