package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"sandboxd/spawn/spawntest"
)

// process is one line of the tree.
type process struct {
	spawntest.Proc
	depth int
}

// tree lists everything below us, parents before their children.
func tree() []process {
	below := map[int][]process{}
	for _, p := range spawntest.Descendants() {
		below[p.Parent] = append(below[p.Parent], process{Proc: p})
	}
	var all []process
	var walk func(pid, depth int)
	walk = func(pid, depth int) {
		for _, p := range below[pid] {
			p.depth = depth
			all = append(all, p)
			walk(p.PID, depth+1)
		}
	}
	walk(os.Getpid(), 0)
	return all
}

func (p process) proc(file string) string { return fmt.Sprintf("/proc/%d/%s", p.PID, file) }

// read is one of its files on one line; what cannot be read is said.
func (p process) read(file string) string {
	b, err := os.ReadFile(p.proc(file))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

func (p process) line() string {
	return fmt.Sprintf("%s%d %c %s: %s\n", strings.Repeat("  ", p.depth), p.PID, p.State, p.Name, p.read("cmdline"))
}

// goTest says whether it is a test binary of go test.
func (p process) goTest() bool {
	exe, err := os.Readlink(p.proc("exe"))
	return err == nil && strings.HasSuffix(strings.TrimSuffix(exe, " (deleted)"), ".test")
}

// describe writes what it is doing: every thread's wait channel and kernel
// stack, and what its descriptors are.
func (p process) describe(w io.Writer) {
	fmt.Fprint(w, p.line())
	in := strings.Repeat("  ", p.depth) + "    "
	tasks, _ := filepath.Glob(p.proc("task/*"))
	for _, t := range tasks {
		id := "task/" + filepath.Base(t) + "/"
		fmt.Fprintf(w, "%sthread %s %s wchan %s syscall %s\n", in, filepath.Base(t), p.read(id+"comm"), p.read(id+"wchan"), p.read(id+"syscall"))
		if stack, err := os.ReadFile(p.proc(id + "stack")); err == nil && len(stack) > 0 {
			fmt.Fprintf(w, "%s  %s\n", in, strings.ReplaceAll(strings.TrimSpace(string(stack)), "\n", "\n  "+in))
		}
	}
	fds, _ := filepath.Glob(p.proc("fd/*"))
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err == nil {
			fmt.Fprintf(w, "%sfd %s %s\n", in, filepath.Base(fd), to)
		}
	}
}
