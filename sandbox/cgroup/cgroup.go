// Package cgroup holds actors: one leaf cgroup per actor, with its limits, the
// descriptors by which a process gets in, its accounting, and proof that it is
// empty again.
//
//	host, err := cgroup.Detect()
//	tree, err := host.Tree("7") // folders sandboxd-7, made when first needed
//	leaf, err := tree.Leaf("worker", cgroup.Limits{Memory: 64 << 20, PIDs: 32, CPUMilli: 500})
//	tasks, into, err := leaf.Join() // the child writes "0" to each of tasks; into is for clone3(2)
//	…
//	err = errors.Join(leaf.Kill(), leaf.WaitEmpty(ctx), leaf.Remove(), tree.Close())
//
// Three layouts are understood, alone or mixed: v1 (each controller its own
// mount), hybrid (v1 controllers beside a cgroup2 mount, whose directory then
// serves for atomic kill, CPU time and clone3) and unified. Everything
// is placed below the caller's own cgroup, so that limits on the caller hold
// for its actors too; the one exception is told at [Host.Tree].
//
// No pid is ever written to a cgroup.procs file on the way to a running actor:
// that takes a global lock and waits milliseconds for RCU. A child that writes
// "0" to an opened v1 `tasks` file, or is cloned into a v2 directory, does not.
//
// Creating a leaf is a mkdir and a few writes in each hierarchy, and every run
// pays for it, so this package does it by descriptor with x/sys alone: linking
// a cgroup library costs each start of the program more than the work itself.
// The library github.com/containerd/cgroups is the independent oracle of the
// tests: what it reads of our leaves must be what we set and what we report.
//
// Non-goals: device rules, cpusets, network classes, I/O limits, systemd
// transient units, and cgroups that someone else made.
//
// Sources: cgroups(7) and the kernel's Documentation/admin-guide/cgroup-v1 and
// cgroup-v2.rst.
package cgroup

import (
	"fmt"
	"os"
	"strings"
)

// Controller is a set of things that a leaf can limit or measure.
type Controller uint8

// The controllers. CPUTime and Unified are ours: CPUTime is v1's cpuacct or the
// base statistics of any v2 directory, Unified is a v2 directory as such.
const (
	Memory  Controller = 1 << iota // memory limit, memory peak, OOM kills
	PIDs                           // limit and peak of processes and threads
	CPU                            // CPU bandwidth limit, throttling
	CPUTime                        // CPU time used
	IO                             // bytes read and written on block devices
	Unified                        // atomic kill, clone3(CLONE_INTO_CGROUP)
)

// v2Controllers are those that a unified hierarchy must hand down by
// cgroup.subtree_control.
const v2Controllers = Memory | PIDs | CPU | IO

var controllerNames = [...]struct {
	bit        Controller
	v1, v2, ui string
}{
	{Memory, "memory", "memory", "memory"},
	{PIDs, "pids", "pids", "pids"},
	{CPU, "cpu", "cpu", "cpu"},
	{CPUTime, "cpuacct", "", "cpu time"},
	{IO, "blkio", "io", "io"},
	{Unified, "", "", "cgroup2 directory"},
}

// String names the controllers as people say them.
func (c Controller) String() string {
	var names []string
	for _, n := range controllerNames {
		if c&n.bit != 0 {
			names = append(names, n.ui)
		}
	}
	return strings.Join(names, ", ")
}

// parseV2 reads a cgroup.controllers or cgroup.subtree_control file.
func parseV2(s string) (c Controller) {
	for word := range strings.FieldsSeq(s) {
		for _, n := range controllerNames {
			if n.v2 == word {
				c |= n.bit
			}
		}
	}
	return c
}

// switchV2 is the text that turns controllers on ("+") or off ("-").
func switchV2(sign string, c Controller) string {
	var words []string
	for _, n := range controllerNames {
		if c&n.bit != 0 && n.v2 != "" {
			words = append(words, sign+n.v2)
		}
	}
	return strings.Join(words, " ")
}

// Limits is what a leaf may use. The zero value limits nothing. What is to be
// limited by SetLimits later must be limited or listed in Account when the leaf
// is made, because a process is in the hierarchies that it started in.
type Limits struct {
	// Memory is in bytes, page cache included, and rounded down to whole
	// pages by the kernel. 0: no limit.
	Memory int64
	// MemorySwap is memory and swap together in bytes, as docker's
	// --memory-swap. 0: equal to Memory, so no swap. -1: swap is not limited.
	MemorySwap int64
	// CPUMilli is CPU bandwidth in thousandths of one CPU. 0: no limit.
	CPUMilli int64
	// PIDs is the number of processes and threads. 0: no limit.
	PIDs int64
	// Account names what Usage and Events must be able to tell beyond what
	// is limited. Each v1 hierarchy more costs a mkdir and a join.
	Account Controller
	// Group makes a leaf that may hold others, see [Leaf.Leaf]: its limits bind
	// its own processes and theirs together.
	Group bool
}

// needs are the controllers that l uses.
func (l Limits) needs() Controller {
	need := l.Account
	if l.Memory != 0 {
		need |= Memory
	}
	if l.PIDs != 0 {
		need |= PIDs
	}
	if l.CPUMilli != 0 {
		need |= CPU
	}
	return need
}

// What the kernel takes at most: PID_MAX_LIMIT, and ten thousand CPUs.
const (
	maxPIDs     = 4 << 20
	maxCPUMilli = 10_000_000
)

// Check says what is wrong with l on any host; nil if it can be asked for.
func (l Limits) Check() error {
	page := int64(os.Getpagesize())
	switch {
	case l.Memory < 0, l.PIDs < 0, l.CPUMilli < 0, l.MemorySwap < -1:
		return fmt.Errorf("cgroup: limits %+v: a limit is negative; 0 means no limit", l)
	case l.PIDs > maxPIDs:
		return fmt.Errorf("cgroup: process limit of %d: the kernel has no more than %d; 0 means no limit", l.PIDs, maxPIDs)
	case l.CPUMilli > maxCPUMilli:
		return fmt.Errorf("cgroup: CPU limit of %d thousandths is more than the kernel counts, %d; 0 means no limit", l.CPUMilli, maxCPUMilli)
	case l.Memory > 0 && l.Memory < page:
		return fmt.Errorf("cgroup: memory limit of %d bytes is less than one page of %d bytes: nothing could run in it", l.Memory, page)
	case l.Memory == 0 && l.MemorySwap != 0:
		return fmt.Errorf("cgroup: memory+swap limit of %d bytes without a memory limit; set one", l.MemorySwap)
	case l.MemorySwap > 0 && l.MemorySwap < l.Memory:
		return fmt.Errorf("cgroup: memory+swap limit of %d bytes is less than the memory limit of %d bytes, which it includes", l.MemorySwap, l.Memory)
	}
	return nil
}

// checkName accepts what may become a directory name below a cgroup.
func checkName(what, name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.'
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}
	if !ok {
		return fmt.Errorf("cgroup: %s name %q: want 1 to 128 of letters, digits, _, - and dots, not starting with a dot", what, name)
	}
	return nil
}
