package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// create puts limits in force in one directory of a fresh leaf, for the
// controllers in has. What is not limited is the kernel's default already.
func (l Limits) create(n node, has Controller) error {
	if n.unified && has&Memory != 0 {
		// One process of an actor shot by the OOM killer leaves half an actor.
		if err := n.write("memory.oom.group", "1"); err != nil && !missing(err) {
			return fmt.Errorf("cgroup: have the whole leaf die when out of memory: %w", err)
		}
	}
	if l.Memory != 0 && has&Memory != 0 {
		if err := l.memory(n); err != nil {
			return err
		}
	}
	if l.PIDs != 0 && has&PIDs != 0 {
		if err := l.pids(n); err != nil {
			return err
		}
	}
	if l.CPUMilli != 0 && has&CPU != 0 {
		return l.cpu(n, true)
	}
	return nil
}

// SetLimits replaces the limits of a leaf, running or not; Account and Group are ignored.
// Memory below what is in use is reclaimed: if it cannot be, v1 refuses and v2
// kills. After an error some limits may be the old ones.
func (l *Leaf) SetLimits(limits Limits) error {
	if err := limits.Check(); err != nil {
		return err
	}
	return l.hold(func() error {
		for _, k := range []struct {
			c     Controller
			asked bool
			set   func(node) error
		}{
			{Memory, limits.Memory != 0, limits.memory},
			{PIDs, limits.PIDs != 0, limits.pids},
			{CPU, limits.CPUMilli != 0, func(n node) error { return limits.cpu(n, false) }},
		} {
			n, ok := l.at(k.c)
			switch {
			case !ok && k.asked:
				return fmt.Errorf("cgroup: limit %s of leaf %s: it was made without; name it in Limits.Account when making the leaf", k.c, l.name)
			case ok:
				if err := k.set(n); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (l Limits) memory(n node) error {
	if n.unified {
		if err := n.write("memory.max", orMax(l.Memory)); err != nil {
			return fmt.Errorf("cgroup: limit memory to %d bytes: %w", l.Memory, err)
		}
		swap := "max" // v2 counts swap by itself
		switch {
		case l.Memory != 0 && l.MemorySwap == 0:
			swap = "0"
		case l.MemorySwap > 0:
			swap = strconv.FormatInt(l.MemorySwap-l.Memory, 10)
		}
		return l.swap(n, "memory.swap.max", swap)
	}
	memory, both := l.Memory, l.MemorySwap
	if memory == 0 {
		memory, both = -1, -1
	} else if both == 0 {
		both = memory
	}
	// The kernel holds memory <= memory+swap at every moment, so which one to
	// write first depends on the direction.
	text := strconv.FormatInt(memory, 10)
	err := n.write("memory.limit_in_bytes", text)
	raising := errors.Is(err, unix.EINVAL)
	if err == nil || raising {
		if err := l.swap(n, "memory.memsw.limit_in_bytes", strconv.FormatInt(both, 10)); err != nil {
			return err
		}
	}
	if raising {
		err = n.write("memory.limit_in_bytes", text)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("cgroup: limit memory to %d bytes: more is in use and cannot be reclaimed: %w", l.Memory, err)
	}
	if err != nil {
		return fmt.Errorf("cgroup: limit memory to %d bytes: %w", l.Memory, err)
	}
	return nil
}

// swap writes a swap limit. A kernel that counts no swap has no such file; that
// matters only where there is swap to be limited.
func (l Limits) swap(n node, file, value string) error {
	err := n.write(file, value)
	if !missing(err) {
		if err != nil {
			return fmt.Errorf("cgroup: limit swap: %w", err)
		}
		return nil
	}
	if l.Memory == 0 || l.MemorySwap == -1 {
		return nil
	}
	some, swapErr := hasSwap()
	if swapErr != nil || some {
		return &Unavailable{Memory, "the host swaps but its kernel does not count it", "boot with swapaccount=1, switch swap off, or ask for MemorySwap -1", errors.Join(err, swapErr)}
	}
	return nil
}

func hasSwap() (bool, error) {
	s, err := nodeAt("/proc", false).read("meminfo", maxFile)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "SwapTotal:" {
			return f[1] != "0", nil
		}
	}
	return false, nil
}

func (l Limits) pids(n node) error {
	if err := n.write("pids.max", orMax(l.PIDs)); err != nil {
		return fmt.Errorf("cgroup: limit processes to %d: %w", l.PIDs, err)
	}
	return nil
}

func orMax(v int64) string {
	if v == 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

// The kernel's default period, and its longest, for shares of a CPU of which
// 100 ms would not hold the least quota of 1 ms.
const (
	cpuPeriod     = 100_000 // µs
	cpuLongPeriod = 1_000_000
	cpuMinQuota   = 1_000
)

// cpu sets the bandwidth; a fresh v1 leaf has the default period already.
func (l Limits) cpu(n node, fresh bool) error {
	period := int64(cpuPeriod)
	quota := l.CPUMilli * period / 1000
	if quota != 0 && quota < cpuMinQuota {
		period = cpuLongPeriod
		quota = l.CPUMilli * period / 1000
	}
	var err error
	switch {
	case n.unified:
		err = n.write("cpu.max", orMax(quota)+" "+strconv.FormatInt(period, 10))
	default:
		if !fresh || period != cpuPeriod {
			err = n.write("cpu.cfs_period_us", strconv.FormatInt(period, 10))
		}
		if quota == 0 {
			quota = -1
		}
		if err == nil {
			err = n.write("cpu.cfs_quota_us", strconv.FormatInt(quota, 10))
		}
	}
	if errors.Is(err, unix.EINVAL) { // v1 refuses what v2 lets the tighter limit above win over
		return &Unavailable{CPU, fmt.Sprintf("a limit of %d thousandths is more than the cgroup above it may use", l.CPUMilli), "ask for less", err}
	}
	if err != nil {
		return fmt.Errorf("cgroup: limit CPU to %d thousandths: %w", l.CPUMilli, err)
	}
	return nil
}

// Limits reads back what the kernel enforces for the leaf by itself; tighter
// limits above it hold too. Account is what the leaf can limit and measure.
func (l *Leaf) Limits() (got Limits, err error) {
	err = l.hold(func() error {
		for i := range l.places {
			got.Account |= l.has(i)
		}
		got.Group = l.group != nil
		for _, k := range []struct {
			c    Controller
			read func(node, *Limits) error
		}{{Memory, readMemory}, {PIDs, readPIDs}, {CPU, readCPU}} {
			if n, ok := l.at(k.c); ok {
				if err := k.read(n, &got); err != nil {
					return fmt.Errorf("cgroup: read back limits of leaf %s: %w", l.name, err)
				}
			}
		}
		return nil
	})
	return got, err
}

func readMemory(n node, got *Limits) error {
	file, swapFile := "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	if n.unified {
		file, swapFile = "memory.max", "memory.swap.max"
	}
	memory, err := n.number(file)
	if err != nil || memory == -1 {
		return err
	}
	swap, err := n.number(swapFile)
	switch {
	case missing(err): // not counted: then there is none, or it was not to be limited
		some, err := hasSwap()
		if err != nil {
			return err
		}
		swap = memory
		if some {
			swap = -1
		}
	case err != nil:
		return err
	case n.unified && swap >= 0:
		swap += memory
	}
	got.Memory, got.MemorySwap = memory, swap
	return nil
}

func readPIDs(n node, got *Limits) error {
	max, err := n.number("pids.max")
	got.PIDs = none(max)
	return err
}

func readCPU(n node, got *Limits) error {
	if !n.unified {
		quota, err := n.number("cpu.cfs_quota_us")
		if err != nil || quota == -1 {
			return err
		}
		period, err := n.number("cpu.cfs_period_us")
		if err == nil && period > 0 {
			got.CPUMilli = quota * 1000 / period
		}
		return err
	}
	s, err := n.read("cpu.max", maxFile)
	if err != nil {
		return err
	}
	quota, period, _ := strings.Cut(strings.TrimSpace(s), " ")
	if quota == "max" {
		return nil
	}
	q, err1 := strconv.ParseInt(quota, 10, 64)
	p, err2 := strconv.ParseInt(period, 10, 64)
	if err := errors.Join(err1, err2); err != nil || p <= 0 {
		return n.fail("parse", "cpu.max", errors.Join(err, os.ErrInvalid))
	}
	got.CPUMilli = q * 1000 / p
	return nil
}

// none turns the -1 of "max" into the 0 of Limits.
func none(v int64) int64 {
	if v < 0 {
		return 0
	}
	return v
}
