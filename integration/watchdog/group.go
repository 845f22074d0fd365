package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// group is a cgroup2 directory of the command's own, for the one thing that
// only a cgroup can: killing a tree that grows while it is killed. Nil where
// the caller may not make one; all methods work on nil.
type group struct{ dir *os.File }

// newGroup makes it below our own cgroup.
func newGroup() (*group, error) {
	mount, err := mountOf("cgroup2")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	path := mount
	for line := range strings.Lines(string(own)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = filepath.Join(mount, rest)
		}
	}
	path = filepath.Join(path, fmt.Sprintf("watchdog-%d", os.Getpid()))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &group{dir}, nil
}

func mountOf(kind string) (string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == kind {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("no %s mount", kind)
}

// join has the command born inside.
func (g *group) join(attr *syscall.SysProcAttr) {
	if g != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// kill ends everything inside, and in directories below, at once (Linux 5.14).
func (g *group) kill() {
	if g != nil {
		_ = os.WriteFile(filepath.Join(g.dir.Name(), "cgroup.kill"), []byte("1"), 0)
	}
}

// remove removes the directory and those below it, once they are empty.
func (g *group) remove() {
	if g == nil {
		return
	}
	defer g.dir.Close()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var dirs []string
		_ = filepath.WalkDir(g.dir.Name(), func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			_ = unix.Rmdir(dir)
		}
		if _, err := os.Stat(g.dir.Name()); errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	fmt.Fprintln(os.Stderr, "watchdog: cannot remove", g.dir.Name())
}
