package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Memory is where the memory of actors shows, in bytes; a difference of two
// may be negative. Free memory is not used, since the kernel gives back network
// namespaces and memory cgroups long after their death. Source: proc_meminfo(5).
type Memory struct {
	Slab        int64 `json:"slab_bytes"`
	PageTables  int64 `json:"page_tables_bytes"`
	KernelStack int64 `json:"kernel_stack_bytes"`
	Percpu      int64 `json:"percpu_bytes"`
	Anon        int64 `json:"anon_bytes"`          // of the machine
	PSS         int64 `json:"pss_bytes,omitempty"` // of the processes named, 0 if none were
}

// ReadMemory reads the machine's counters and sums the proportional set sizes
// of the processes named. One that ended meanwhile counts nothing.
func ReadMemory(pids ...int) (Memory, error) {
	var m Memory
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, fmt.Errorf("bench: read memory counters: %w; is /proc mounted?", err)
	}
	s := string(text)
	for _, f := range []struct {
		key string
		to  *int64
	}{
		{"Slab:", &m.Slab},
		{"PageTables:", &m.PageTables},
		{"KernelStack:", &m.KernelStack},
		{"Percpu:", &m.Percpu},
		{"AnonPages:", &m.Anon},
	} {
		if *f.to, err = kib(s, f.key); err != nil {
			return m, fmt.Errorf("bench: /proc/meminfo: %w", err)
		}
	}
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return m, fmt.Errorf("bench: memory of process %d: %w", pid, err)
		}
		pss, err := kib(string(text), "Pss:")
		if err != nil {
			return m, fmt.Errorf("bench: memory of process %d: %w", pid, err)
		}
		m.PSS += pss
	}
	return m, nil
}

// kib reads a line such as "Slab:   1234 kB".
func kib(text, key string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no line " + key)
}

// Sum is all of it: kernel memory, and of the processes their PSS if known,
// else what the whole machine's anonymous memory grew by.
func (m Memory) Sum() int64 {
	user := m.PSS
	if user == 0 {
		user = m.Anon
	}
	return m.Slab + m.PageTables + m.KernelStack + m.Percpu + user
}

// PerActor is what each of n actors added between two points. Before must name
// no processes, or only those that were no actors yet.
func (m Memory) PerActor(before Memory, n int) Memory {
	d := int64(n)
	return Memory{
		(m.Slab - before.Slab) / d, (m.PageTables - before.PageTables) / d, (m.KernelStack - before.KernelStack) / d,
		(m.Percpu - before.Percpu) / d, (m.Anon - before.Anon) / d, (m.PSS - before.PSS) / d,
	}
}

func memoryPerActor(before Memory, n int, pids []int) (Memory, error) {
	after, err := ReadMemory(pids...)
	return after.PerActor(before, n), err
}

// settledMemory waits, 5 s at most, until what died before has been given back:
// until slab memory has not shrunk by 256 KiB for 300 ms.
func settledMemory(ctx context.Context) (Memory, error) {
	m, err := ReadMemory()
	for calm, tries := 0, 0; err == nil && calm < 3 && tries < 50; tries++ {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return m, err
		}
		last := m.Slab
		if m, err = ReadMemory(); m.Slab < last-256<<10 {
			calm = 0
		} else {
			calm++
		}
	}
	return m, err
}
