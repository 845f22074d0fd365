package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
)

// The test binary is its own child: it joins the leaf whose tasks files it
// inherited and becomes another program, or a bomb.
func TestMain(m *testing.M) {
	hosttest.Main(m, map[string]func() error{"join": join, "bomb": bomb})
}

// join writes "0" from one thread and executes from the same, which ends the
// other threads: what a single-threaded init does in two lines.
func join() error {
	runtime.LockOSThread()
	n, err := strconv.Atoi(os.Getenv("CGROUP_TASKS"))
	for fd := 3; err == nil && fd < 3+n; fd++ {
		if _, err = syscall.Write(fd, []byte("0")); err == nil {
			syscall.CloseOnExec(fd)
		}
	}
	if err == nil {
		if then := os.Getenv("CGROUP_THEN"); then != "" {
			os.Setenv(hosttest.RoleEnv, then)
		}
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	return err
}

func bomb() error {
	b := make([]byte, 64<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return nil
}

var leases atomic.Int64

// realTree is a tree on this host, which is closed and proved gone at the end.
func realTree(t testing.TB, need Controller) *Tree {
	t.Helper()
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Has(need); err != nil {
		hosttest.Lack(t, "cgroups: %v", err)
	}
	lease := fmt.Sprintf("test-%d-%d", os.Getpid(), leases.Add(1))
	tree, err := h.Tree(lease)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		nothingLeft(t, h, lease)
	})
	return tree
}

// nothingLeft walks every hierarchy for directories with the lease's name.
func nothingLeft(t testing.TB, h *Host, lease string) {
	t.Helper()
	for _, root := range roots(h) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.HasSuffix(d.Name(), "-"+lease) {
				t.Errorf("left behind: %s", path)
			}
			return nil // others' cgroups come and go
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func roots(h *Host) (all []string) {
	for _, hier := range h.v1 {
		all = append(all, hier.root)
	}
	if h.v2 != nil {
		all = append(all, h.v2.root)
	}
	return all
}

// start runs a program in the leaf; then is what the test binary does if it is
// the program.
func start(t testing.TB, l *Leaf, then string, args ...string) *exec.Cmd {
	t.Helper()
	tasks, into, err := l.Join()
	if err != nil {
		t.Fatal(err)
	}
	if then != "" {
		args = os.Args[:1]
	}
	c := hosttest.Command("join", args...)
	c.Env = append(c.Env, "CGROUP_THEN="+then, "CGROUP_TASKS="+strconv.Itoa(len(tasks)))
	c.ExtraFiles = tasks
	var stderr bytes.Buffer
	c.Stderr = &stderr
	c.WaitDelay = hosttest.Patience(10)
	if into != nil {
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(into.Fd())}
		defer into.Close()
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		f.Close()
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("child said: %s", stderr.String())
		}
	})
	return c
}

// within is a context that no sound run comes near.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience(30))
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition of the kernel's or a child's making.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hosttest.Patience(30)); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// everywhere tells whether n processes are in each directory of the leaf.
func everywhere(t testing.TB, l *Leaf, n int) func() bool {
	return func() bool {
		for _, p := range l.places {
			pids, err := p.leaf(l.name).pids()
			if err != nil {
				t.Fatal(err)
			}
			if len(pids) < n {
				return false
			}
		}
		return true
	}
}

func mustLeaf(t testing.TB, tree *Tree, name string, limits Limits) *Leaf {
	t.Helper()
	l, err := tree.Leaf(name, limits)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantEvents(t testing.TB, l *Leaf) Events {
	t.Helper()
	e, err := l.Events()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func gone(t testing.TB, l *Leaf) {
	t.Helper()
	if err := errors.Join(l.Kill(), l.WaitEmpty(within(t)), l.Remove()); err != nil {
		t.Fatal(err)
	}
	for _, dir := range l.Dirs() {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after removal: %v", dir, err)
		}
	}
}
