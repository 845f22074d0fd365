package native

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/spawntest"
)

// Of a thread that made files for another, nothing is changed afterwards, nor of its process.
func TestFilesAs(t *testing.T) {
	hosttest.NeedRoot(t)
	dir := spawntest.Dir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGURG), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) }()
	look := func() (dump int, death int32) {
		dump, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&death)), 0, 0, 0)
		}
		if err != nil {
			t.Error(err)
		}
		return dump, death
	}
	dump, death := look()
	back := filesAs(1234, 1235)
	err := os.WriteFile(filepath.Join(dir, "made"), nil, 0o600)
	var group sync.WaitGroup
	for range 8 { // others meanwhile
		group.Go(func() { filesAs(4321, 4321)() })
	}
	group.Wait()
	back()
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat(filepath.Join(dir, "made"), &st)
	}
	if err != nil || st.Uid != 1234 || st.Gid != 1235 {
		t.Errorf("made by %d:%d: %v", st.Uid, st.Gid, err)
	}
	if after, signal := look(); after != dump || signal != death {
		t.Errorf("dumpable %d and the signal of the parent's death %d before, %d and %d after", dump, death, after, signal)
	}
	if err := os.WriteFile(filepath.Join(dir, "ours"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if err := unix.Stat(filepath.Join(dir, "ours"), &st); err != nil || int(st.Uid) != os.Geteuid() {
		t.Errorf("afterwards files belong to %d: %v", st.Uid, err)
	}
}
