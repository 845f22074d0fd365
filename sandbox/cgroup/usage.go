package cgroup

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Usage is what a leaf has used since it was made. Each field is -1 where this
// leaf does not measure it (see Limits.Account) or this kernel does not.
type Usage struct {
	MemoryPeak int64         // bytes, page cache included
	PIDsPeak   int64         // processes and threads at once; kernel 6.1
	CPU        time.Duration // user and system together
	CPUUser    time.Duration
	CPUSystem  time.Duration
	ReadBytes  int64 // from block devices
	WriteBytes int64 // to block devices
}

// Events counts what ran into limits. Each field is -1 where this leaf does not
// measure it.
type Events struct {
	OOMKills     int64         // processes of the leaf killed for want of memory; v2 counts the first of a group twice
	MemoryMax    int64         // times a memory limit was met; v1 kernels may miss those of MemorySwap
	PIDsMax      int64         // forks refused
	Throttled    int64         // CPU periods in which the leaf had to wait
	ThrottleTime time.Duration // total of that wait
}

// Usage reads the leaf's accounting. It stays readable until Remove, so the
// last reading is that of the dead actor.
func (l *Leaf) Usage() (Usage, error) {
	u := Usage{-1, -1, -1, -1, -1, -1, -1}
	err := l.hold(func() (err error) {
		if n, ok := l.at(Memory); ok {
			if u.MemoryPeak, err = n.optional(pick(n, "memory.max_usage_in_bytes", "memory.peak")); err != nil {
				return err
			}
		}
		if n, ok := l.at(PIDs); ok {
			if u.PIDsPeak, err = n.optional("pids.peak"); err != nil {
				return err
			}
		}
		if n, ok := l.at(CPUTime); ok {
			if err := n.cpuTime(&u); err != nil {
				return err
			}
		}
		if n, ok := l.at(IO); ok {
			if u.ReadBytes, u.WriteBytes, err = n.io(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Usage{}, fmt.Errorf("cgroup: usage of leaf %s: %w", l.name, err)
	}
	return u, nil
}

// Events reads the leaf's counters.
func (l *Leaf) Events() (Events, error) {
	e := Events{-1, -1, -1, -1, -1}
	err := l.hold(func() (err error) {
		if n, ok := l.at(Memory); ok {
			if err := l.sum(n, n.unified, node.memoryEvents, &e); err != nil {
				return err
			}
		}
		if n, ok := l.at(PIDs); ok {
			if err := l.sum(n, n.sumsForks(), node.pidsEvents, &e); err != nil {
				return err
			}
		}
		if n, ok := l.at(CPU); ok {
			m, err := n.fields("cpu.stat")
			if err != nil {
				return err
			}
			e.Throttled = get(m, "nr_throttled")
			e.ThrottleTime = nanoseconds(get(m, pick(n, "throttled_time", "throttled_usec")), n.unified)
		}
		return nil
	})
	if err != nil {
		return Events{}, fmt.Errorf("cgroup: events of leaf %s: %w", l.name, err)
	}
	return e, nil
}

func (n node) pidsEvents(e *Events) error {
	m, err := n.fields("pids.events")
	if err != nil && !missing(err) {
		return err
	}
	e.PIDsMax = get(m, "max")
	return nil
}

func pick(n node, v1, v2 string) string {
	if n.unified {
		return v2
	}
	return v1
}

func get(m map[string]int64, key string) int64 {
	if v, ok := m[key]; ok {
		return v
	}
	return -1
}

// nanoseconds keeps -1, and takes v2's microseconds.
func nanoseconds(v int64, micro bool) time.Duration {
	if v >= 0 && micro {
		v *= 1000
	}
	return time.Duration(v)
}

// optional reads a number that older kernels do not have.
func (n node) optional(file string) (int64, error) {
	v, err := n.number(file)
	if missing(err) {
		return -1, nil
	}
	return v, err
}

func (n node) cpuTime(u *Usage) error {
	if n.unified {
		m, err := n.fields("cpu.stat")
		u.CPU = nanoseconds(get(m, "usage_usec"), true)
		u.CPUUser = nanoseconds(get(m, "user_usec"), true)
		u.CPUSystem = nanoseconds(get(m, "system_usec"), true)
		return err
	}
	for file, to := range map[string]*time.Duration{
		"cpuacct.usage": &u.CPU, "cpuacct.usage_user": &u.CPUUser, "cpuacct.usage_sys": &u.CPUSystem,
	} {
		v, err := n.optional(file)
		if err != nil {
			return err
		}
		*to = time.Duration(v)
	}
	return nil
}

func (n node) memoryEvents(e *Events) error {
	if n.unified {
		m, err := n.fields("memory.events")
		e.OOMKills, e.MemoryMax = get(m, "oom_kill"), get(m, "max")
		return err
	}
	m, err := n.fields("memory.oom_control")
	if err != nil {
		return err
	}
	e.OOMKills = get(m, "oom_kill")
	// With equal limits it is memory+swap that is met first.
	max, err := n.number("memory.failcnt")
	if err != nil {
		return err
	}
	both, err := n.optional("memory.memsw.failcnt")
	e.MemoryMax = max + none(both)
	return err
}

// io sums over devices: v1 "8:0 Read 4096", v2 "8:0 rbytes=4096 wbytes=0 …".
func (n node) io() (read, written int64, err error) {
	file := pick(n, "blkio.throttle.io_service_bytes", "io.stat")
	s, err := n.read(file, maxList)
	if missing(err) {
		return -1, -1, nil
	}
	if err != nil {
		return -1, -1, err
	}
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if !n.unified && len(f) == 3 {
			f = []string{f[0], f[1] + "=" + f[2]}
		}
		for _, word := range f[min(1, len(f)):] {
			key, value, _ := strings.Cut(word, "=")
			sum := &read
			switch key {
			case "Read", "rbytes":
			case "Write", "wbytes":
				sum = &written
			default:
				continue
			}
			v, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return -1, -1, n.fail("parse", file, err)
			}
			*sum += v
		}
	}
	return read, written, nil
}
