package spawntest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
)

// settle is how long something may take to go that nobody waits for.
var settle = hosttest.Patience(15)

// Watch compares, at the end of the test, what there is with what there was:
// processes below this one and their namespaces, descriptors, goroutines,
// mounts, temporary files. Call it first, so that it looks last.
func Watch(t testing.TB) {
	t.Helper()
	before := inventory(t)
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(settle); ; time.Sleep(5 * time.Millisecond) {
			Reap()
			left = left[:0]
			for k, n := range inventory(t) {
				if n > before[k] {
					left = append(left, fmt.Sprintf("%s (%d, were %d)", k, n, before[k]))
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				break
			}
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("left behind: %s\n%s", strings.Join(left, "\n\t"), stacks[:runtime.Stack(stacks, true)])
	})
}

// inventory counts everything that a test could leave behind.
func inventory(t testing.TB) map[string]int {
	t.Helper()
	all := map[string]int{"goroutines": runtime.NumGoroutine()}
	for _, p := range Descendants() {
		all[fmt.Sprintf("process %d (%s)", p.PID, p.Name)]++
		for _, ns := range []string{"net", "mnt", "pid", "user"} {
			if link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID, ns)); err == nil {
				all["namespace "+link] = 1
			}
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// The inode tells one pipe or socket from another, and numbers come again: kinds are counted.
		if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.HasPrefix(link, "/proc/") {
			kind, _, _ := strings.Cut(link, ":[")
			all["descriptor "+kind]++
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for m := range strings.Lines(string(mounts)) {
		all["mount "+strings.TrimSpace(m)]++
	}
	_ = filepath.WalkDir(os.TempDir(), func(p string, _ fs.DirEntry, err error) error {
		if err == nil && p != os.TempDir() {
			all["file "+p]++
		}
		return nil // files come and go while we look
	})
	return all
}

// Proc is a process as /proc/PID/stat tells of it.
type Proc struct {
	PID, Parent int
	Name        string
	State       byte
}

// Descendants are all processes below this one, zombies included. Orphans are
// among them, for Main makes this process their parent.
func Descendants() []Proc {
	all := map[int]Proc{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		fields := strings.Fields(string(b[end+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || open < 0 || len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		all[pid] = Proc{pid, parent, string(b[open+1 : end]), fields[0][0]}
	}
	var found []Proc
	for _, p := range all {
		for up := p.Parent; up > 0; up = all[up].Parent {
			if up == os.Getpid() {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// Reap does the duty of an init for orphans that have died. It must not be
// called while a child that somebody else waits for may be dead.
func Reap() {
	for _, p := range Descendants() {
		if p.State == 'Z' && p.Parent == os.Getpid() {
			_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil)
		}
	}
}
