package lease

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// The test binary is its own other supervisor.
func TestMain(m *testing.M) {
	hosttest.Main(m, map[string]func() error{"hold": hold, "contend": contend})
}

func nothing(int, string) error { return nil }

// hold takes a lease, says which, and waits to be killed.
func hold() error {
	l, err := Acquire(os.Getenv("LEASE_DIR"), nothing)
	if err != nil {
		return err
	}
	if err := l.Note("left by " + strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	fmt.Println(l.N)
	select {}
}

// contend takes and releases, and proves each time that nobody else holds the
// number, by a file that only one process can make. The last one it keeps for
// the kernel to free.
func contend() error {
	dir := os.Getenv("LEASE_DIR")
	for range 40 {
		l, err := Acquire(dir, nothing)
		if err != nil {
			return err
		}
		if l.Warnings != nil {
			return l.Warnings
		}
		proof := filepath.Join(dir, "proof", strconv.Itoa(l.N))
		f, err := os.OpenFile(proof, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("shared: %w", err)
		}
		f.Close()
		time.Sleep(time.Millisecond)
		if err := errors.Join(os.Remove(proof), l.Release()); err != nil {
			return err
		}
	}
	_, err := Acquire(dir, nothing)
	return err
}

func helper(what, dir string) *exec.Cmd {
	c := hosttest.Command(what)
	c.Env = append(c.Env, "LEASE_DIR="+dir)
	return c
}

func leaseDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "leases")
}

func acquire(t testing.TB, dir string, sweep func(int, string) error) *Lease {
	t.Helper()
	l, err := Acquire(dir, sweep)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return l
}

func TestLowestFree(t *testing.T) {
	dir := leaseDir(t)
	a, b, c := acquire(t, dir, nothing), acquire(t, dir, nothing), acquire(t, dir, nothing)
	if a.N != 0 || b.N != 1 || c.N != 2 {
		t.Fatalf("numbers %d, %d, %d", a.N, b.N, c.N)
	}
	if err := errors.Join(b.Release(), b.Release()); err != nil {
		t.Fatal(err)
	}
	if err := b.Note("late"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("note after release: %v", err)
	}
	if d := acquire(t, dir, nothing); d.N != 1 {
		t.Errorf("after release of 1: %d", d.N)
	}
	flags, err := unix.FcntlInt(a.file.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %x, %v: children would inherit the lease", flags, err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", st.Mode(), err)
	}
}

func TestContention(t *testing.T) {
	dir := leaseDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "proof"), 0o700); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if out, err := helper("contend", dir).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	acquire(t, dir, nothing)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left in the directory: %v (%v), want the new lease and proof", entries, err)
	}
}

// killed leaves a dead lease and returns its number and note.
func killed(t *testing.T, dir string) (int, string) {
	t.Helper()
	c := helper("hold", dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	c.Process.Kill()
	c.Wait()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return n, "left by " + strconv.Itoa(c.Process.Pid)
}

func TestDeadIsSweptOnce(t *testing.T) {
	dir := leaseDir(t)
	first := acquire(t, dir, nothing)
	n, note := killed(t, dir)
	if n != 1 {
		t.Fatalf("holder got %d", n)
	}
	var mu sync.Mutex
	var swept []string
	sweep := func(n int, note string) error {
		mu.Lock()
		defer mu.Unlock()
		if note != "" { // else a file that another goroutine made and has not locked yet
			swept = append(swept, fmt.Sprint(n, " ", note))
		}
		return nil
	}
	var wg sync.WaitGroup
	var numbers [16]atomic.Int64
	for i := range numbers {
		wg.Go(func() {
			l, err := Acquire(dir, sweep)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { l.Release() })
			numbers[i].Store(int64(l.N))
		})
	}
	wg.Wait()
	if want := []string{fmt.Sprint(n, " ", note)}; !slices.Equal(swept, want) {
		t.Errorf("swept %q, want %q", swept, want)
	}
	seen := map[int64]bool{int64(first.N): true}
	for i := range numbers {
		if seen[numbers[i].Load()] {
			t.Errorf("lease %d is held twice", numbers[i].Load())
		}
		seen[numbers[i].Load()] = true
	}
}

// What could not be swept stays out of use, and is tried again.
func TestSweepFails(t *testing.T) {
	dir := leaseDir(t)
	n, _ := killed(t, dir)
	broken := errors.New("broken broom")
	l := acquire(t, dir, func(int, string) error { return broken })
	if l.N == n || !errors.Is(l.Warnings, broken) || !strings.Contains(l.Warnings.Error(), "dead lease "+strconv.Itoa(n)) {
		t.Fatalf("lease %d with warnings %v, want another than %d and a warning about it", l.N, l.Warnings, n)
	}
	if l := acquire(t, dir, nothing); l.N != n || l.Warnings != nil {
		t.Errorf("lease %d with warnings %v, want %d swept", l.N, l.Warnings, n)
	}
}

func TestNote(t *testing.T) {
	dir := leaseDir(t)
	l := acquire(t, dir, nothing)
	for _, text := range []string{"a long note", "short", "", strings.Repeat("x", maxNote)} {
		if err := l.Note(text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "0")); err != nil || string(got) != text {
			t.Errorf("note %.20q (%v), want %.20q", got, err, text)
		}
	}
	if err := l.Note(strings.Repeat("x", maxNote+1)); err == nil {
		t.Error("a note without end passes")
	}
}

// A file that was unlinked, or replaced, between open and lock is not the lease.
func TestReplaced(t *testing.T) {
	dir := leaseDir(t)
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(dir, "0")
	stale, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := lockOpened(d, "0", int(stale.Fd())); err != unix.ENOENT {
		t.Errorf("lock of an unlinked file: %v", err)
	}
	fresh, err := claim(d, 0)
	if err != nil || fresh == nil {
		t.Fatal(fresh, err)
	}
	defer fresh.Close()
	if err := lockOpened(d, "0", int(stale.Fd())); err != unix.ENOENT {
		t.Errorf("lock of a replaced file: %v", err)
	}
	if f, err := lock(d, "0", 0); f != nil || err != nil {
		t.Errorf("lock of a held lease: %v, %v", f, err)
	}
	if f, err := claim(d, 0); f != nil || err != nil {
		t.Errorf("claim of a held lease: %v, %v", f, err)
	}
}

func TestHostileDirectory(t *testing.T) {
	parent := t.TempDir()
	real := filepath.Join(parent, "real")
	link := filepath.Join(parent, "link")
	file := filepath.Join(parent, "file")
	open := filepath.Join(parent, "open")
	err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link), os.WriteFile(file, nil, 0o600), os.Mkdir(open, 0o700), os.Chmod(open, 0o777))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{link: "is a link", file: "is a link or a file", open: "mode 777", filepath.Join(parent, "no", "where"): "parent must exist"}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(parent, "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 1500, 1500)); err != nil {
			t.Fatal(err)
		}
		cases[theirs] = "belongs to uid 1500"
	} else {
		cases["/usr"] = "belongs to uid 0"
	}
	for dir, want := range cases {
		if l, err := Acquire(dir, nothing); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", dir, l, err, want)
		}
	}
	if entries, err := os.ReadDir(real); err != nil || len(entries) != 0 {
		t.Errorf("made through the link: %v, %v", entries, err)
	}
}

// Strangers' files are neither swept nor counted.
func TestOtherFiles(t *testing.T) {
	dir := leaseDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "sockets"), 0o700); err != nil {
		t.Fatal(err)
	}
	names := []string{"007", "-1", "4096", "x", "+3"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := acquire(t, dir, func(n int, _ string) error {
		t.Errorf("swept %d", n)
		return nil
	})
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != len(names)+1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestFull(t *testing.T) {
	dir := leaseDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for n := range Max {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broken := errors.New("broken broom")
	_, err := Acquire(dir, func(int, string) error { return broken })
	if !errors.Is(err, ErrFull) || !errors.Is(err, broken) || !strings.Contains(err.Error(), "end a supervisor") {
		t.Errorf("a full range: %.200v", err)
	}
	if l := acquire(t, dir, nothing); l.N != 0 {
		t.Errorf("after the broom was mended: %d", l.N)
	}
}

func TestDir(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	want := os.Getenv("XDG_RUNTIME_DIR") + "/sandboxd"
	if os.Geteuid() == 0 {
		want = "/run/sandboxd"
	}
	if got := Dir(); got != want {
		t.Errorf("directory %s, want %s", got, want)
	}
}

func BenchmarkAcquire(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "lease")
	if err != nil {
		hosttest.Lack(b, "/dev/shm: %v", err)
	}
	defer os.RemoveAll(dir)
	for b.Loop() {
		l, err := Acquire(dir, nothing)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Release(); err != nil {
			b.Fatal(err)
		}
	}
}
