package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// dumpsMost bounds the processes that are told of one actor.
const dumpsMost = 32

// dump tells what the kernel says of an actor's processes, and of its cgroup.
func (a *Process) dump(b *strings.Builder, indent string) {
	a.mu.Lock()
	proc, over := a.proc, a.over
	a.mu.Unlock()
	if proc == nil || over {
		return
	}
	all := []int{proc.PID()}
	for i := 0; i < len(all) && len(all) < dumpsMost; i++ {
		all = append(all, children(all[i])...)
	}
	for _, pid := range all[:min(len(all), dumpsMost)] {
		if line := procLine(pid); line != "" {
			fmt.Fprintf(b, "%sprocess %d: %s\n", indent, pid, line)
		}
	}
	if a.leaf == nil {
		return
	}
	if u, err := a.leaf.Usage(); err == nil {
		fmt.Fprintf(b, "%scgroup: %+v\n", indent, u)
	}
}

// children are those of a process, by all its threads; none where the kernel does not tell.
func children(pid int) (all []int) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	for _, t := range tasks {
		for f := range strings.FieldsSeq(procFile(pid, "task/"+t.Name()+"/children")) {
			if kid, err := strconv.Atoi(f); err == nil && len(all) < dumpsMost {
				all = append(all, kid)
			}
		}
	}
	return all
}

// procLine is a process's name, state and what it waits for; "" where it is gone.
// The program has chosen the name.
func procLine(pid int) string {
	stat := procFile(pid, "stat")
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	if open < 0 || end < open || len(fields) == 0 {
		return ""
	}
	line := fmt.Sprintf("%q, state %s", stat[open+1:end], fields[0])
	if wchan := procFile(pid, "wchan"); wchan != "" && wchan != "0" {
		line += ", waits in " + wchan
	}
	return line
}

// procFile is the beginning of a file of /proc; "" where there is nothing to read.
func procFile(pid int, name string) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 4<<10))
	return string(bytes.TrimSpace(b))
}
