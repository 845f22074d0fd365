package spawntest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
)

// Leaf is a cgroup of version 2 for the time of the test, below this process's own or the top.
func Leaf(t *testing.T) *os.File {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var at, below string
	for line := range strings.Lines(string(mounts)) {
		where, what, _ := strings.Cut(line, " - ")
		if f := strings.Fields(where); len(f) > 4 && f[3] == "/" && strings.HasPrefix(what, "cgroup2 ") {
			at = f[4]
		}
	}
	for line := range strings.Lines(string(own)) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			below = p
		}
	}
	if os.Geteuid() == 0 { // at the top, where a leaf has what controllers there are
		below = "/"
	}
	if at == "" {
		t.Skip("does not apply: this host has no cgroup v2")
	}
	dir := filepath.Join(at, below, fmt.Sprint("spawntest-", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS) {
		t.Skip("does not apply: no cgroup is delegated to this user")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := unix.Rmdir(dir)
		for end := time.Now().Add(settle); err == unix.EBUSY && time.Now().Before(end); err = unix.Rmdir(dir) { // the dead count until they are reaped
			time.Sleep(time.Millisecond)
		}
		if err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// An actor is born in its cgroup, and where that has no room, it is not born.
func testIntoCgroup(t *testing.T, s *suite) {
	dir := Leaf(t)
	b := s.open(t)
	into := func(r *spawn.Request) { r.Cgroup = dir }
	members := func() []string {
		list, err := os.ReadFile(dir.Name() + "/cgroup.procs")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(list))
	}
	p := s.live(t, b, "echo ready; read x")
	if list := members(); len(list) > 0 {
		t.Errorf("an actor without a cgroup is in it: %v", list)
	}
	p.stdin.Close()
	p.wait()
	p = s.start(t, b, into, "sh", "-c", "cat /proc/self/cgroup; read x; :")
	if list := members(); len(list) < 2 || !slices.Contains(list, strconv.Itoa(p.PID())) {
		t.Errorf("the init %d and its program are not in the cgroup, but %v", p.PID(), list)
	}
	p.stdin.Close()
	p.wait()
	seen := ""
	for line := range strings.Lines(p.out.all(t)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			seen = strings.TrimSpace(path)
		}
	}
	want := "/"
	if _, sees := s.lacks[Hidden]; sees {
		want = filepath.Base(dir.Name())
	}
	if filepath.Base(seen) != want && !(s.foreign() && seen == "") {
		t.Errorf("the program sees its cgroup as %q", seen)
	}
	if list := members(); len(list) > 0 {
		t.Errorf("alive after the end: %v", list)
	}
	if err := os.WriteFile(dir.Name()+"/pids.max", []byte("0"), 0); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return // the controller is not v2's, or not enabled here
	} else if err != nil {
		t.Fatal(err)
	}
	_, err := s.try(t, bounded(t), b, into, "true")
	wantStep(t, err, unix.EAGAIN, false)
}
