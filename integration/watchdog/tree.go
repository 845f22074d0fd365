package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one line of the tree.
type process struct {
	pid, parent, depth int
	name, state        string
}

// tree lists everything below a process, parents before their children.
func tree(root int) []process {
	below := map[int][]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right, so there is no error
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // gone
		}
		head, rest, ok := bytes.Cut(b, []byte(") "))
		fields := strings.Fields(string(rest))
		pid, name, ok2 := strings.Cut(string(head), " (")
		if !ok || !ok2 || len(fields) < 2 {
			continue
		}
		p := process{name: name, state: fields[0]}
		p.pid, _ = strconv.Atoi(pid)
		p.parent, _ = strconv.Atoi(fields[1])
		below[p.parent] = append(below[p.parent], p)
	}
	var all []process
	var walk func(pid, depth int)
	walk = func(pid, depth int) {
		for _, p := range below[pid] {
			p.depth = depth
			all = append(all, p)
			walk(p.pid, depth+1)
		}
	}
	walk(root, 0)
	return all
}

func (p process) proc(file string) string { return fmt.Sprintf("/proc/%d/%s", p.pid, file) }

// read is one of its files on one line; what cannot be read is said.
func (p process) read(file string) string {
	b, err := os.ReadFile(p.proc(file))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

func (p process) line() string {
	return fmt.Sprintf("%s%d %s %s: %s\n", strings.Repeat("  ", p.depth), p.pid, p.state, p.name, p.read("cmdline"))
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
		task := process{pid: p.pid}
		id := "task/" + filepath.Base(t) + "/"
		fmt.Fprintf(w, "%sthread %s %s wchan %s syscall %s\n", in, filepath.Base(t), task.read(id+"comm"), task.read(id+"wchan"), task.read(id+"syscall"))
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
