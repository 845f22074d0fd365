package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pids lists the processes in n and below, in the numbers of our pid namespace.
// What is gone holds none.
func (n node) pids() ([]int, error) {
	pids, err := n.procs()
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	below, err := n.children()
	if missing(err) {
		return pids, nil
	}
	for _, c := range below {
		more, err := c.pids()
		if err != nil {
			return nil, err
		}
		pids = append(pids, more...)
	}
	return pids, err
}

// procs lists the processes in n itself.
func (n node) procs() (pids []int, err error) {
	s, err := n.read("cgroup.procs", maxList)
	if errors.Is(err, unix.EOPNOTSUPP) { // threads, of processes listed further up
		return nil, nil
	}
	for word := range strings.FieldsSeq(s) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, n.fail("parse", "cgroup.procs", err)
		}
		pids = append(pids, pid)
	}
	return pids, err
}

// populated asks the kernel on v2, where the answer covers all below.
func (n node) populated() (bool, error) {
	if n.unified {
		m, err := n.fields("cgroup.events")
		if missing(err) {
			return false, nil
		}
		return m["populated"] != 0, err
	}
	pids, err := n.pids()
	return len(pids) > 0, err
}

func populated(nodes []node) (bool, error) {
	for _, n := range nodes {
		if some, err := n.populated(); some || err != nil {
			return some, err
		}
	}
	return false, nil
}

// poll asks until the answer is no: v2 holds its event of emptiness back by up
// to 10 ms, and v1 has none. It fails with the cause of ctx.
func poll(ctx context.Context, ask func() (bool, error)) error {
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		if yes, err := ask(); err != nil || !yes {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// some10 lists pids for a message.
func some10(pids []int) string {
	if len(pids) > 10 {
		return fmt.Sprintf("processes %v and %d more", pids[:10], len(pids)-10)
	}
	return fmt.Sprintf("processes %v", pids)
}

// kill sends SIGKILL to all in nodes: on v2 by cgroup.kill (kernel 5.14), which
// no fork escapes, then one by one to whoever is only in a v1 directory.
func kill(nodes []node) error {
	done := make(map[int]bool)
	for _, n := range nodes {
		if !n.unified {
			continue
		}
		pids, err := n.pids()
		if err != nil {
			return err
		}
		err = n.write("cgroup.kill", "1")
		if err != nil && !missing(err) {
			return err
		}
		for _, pid := range pids {
			done[pid] = err == nil
		}
	}
	return hunt(nodes, done)
}

// hunt kills pid by pid until a look at the nodes shows nobody new.
func hunt(nodes []node, done map[int]bool) error {
	for range 1000 {
		fresh := 0
		for _, n := range nodes {
			pids, err := n.pids()
			if err != nil {
				return err
			}
			pids = slices.DeleteFunc(pids, func(pid int) bool { return done[pid] })
			pids = pids[:min(len(pids), 512)] // each costs a descriptor
			if err := n.shoot(pids); err != nil {
				return err
			}
			for _, pid := range pids {
				done[pid] = true
			}
			fresh += len(pids)
		}
		if fresh == 0 {
			return nil
		}
		for _, n := range nodes { // no new processes from here on
			if err := n.write("pids.max", "0"); err != nil && !missing(err) {
				return err
			}
		}
	}
	return errors.New("new processes appear as fast as they are killed; give the leaf a process limit")
}

// shoot kills by descriptor, and only those that the cgroup still lists once
// the descriptor is held: a number alone could be a stranger's by now.
func (n node) shoot(pids []int) error {
	if len(pids) == 0 {
		return nil
	}
	fds := make(map[int]int)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		if pid == 0 {
			return fmt.Errorf("%s holds a process outside of our pid namespace, which we cannot name", n.abs)
		}
		fd, err := unix.PidfdOpen(pid, 0)
		switch err {
		case nil:
			fds[pid] = fd
		case unix.ESRCH: // dead and reaped meanwhile
		default:
			return fmt.Errorf("open process %d of %s: %w", pid, n.abs, err)
		}
	}
	still, err := n.pids()
	if err != nil {
		return err
	}
	for _, pid := range still {
		if fd, ok := fds[pid]; ok {
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
				return fmt.Errorf("kill process %d of %s: %w", pid, n.abs, err)
			}
		}
	}
	return nil
}

// PIDs lists the processes of the leaf, sorted, in the numbers of our pid
// namespace.
func (l *Leaf) PIDs() (all []int, err error) {
	err = l.hold(func() error {
		for _, n := range l.nodes() {
			pids, err := n.pids()
			if err != nil {
				return err
			}
			all = append(all, pids...)
		}
		return nil
	})
	slices.Sort(all)
	return slices.Compact(all), err
}

// Populated reports whether any process, zombies aside, is in the leaf.
func (l *Leaf) Populated() (some bool, err error) {
	err = l.hold(func() error { some, err = populated(l.nodes()); return err })
	return some, err
}

// WaitEmpty waits until the leaf holds no process: the proof that a kill worked.
// It polls up to 200 times a second, so watch a process by its pidfd instead
// when it is not expected to die. When ctx ends first, the error names who is
// left and wraps the cause of ctx.
func (l *Leaf) WaitEmpty(ctx context.Context) error {
	err := poll(ctx, l.Populated)
	if err == nil {
		return nil
	}
	if pids, _ := l.PIDs(); len(pids) > 0 {
		return fmt.Errorf("cgroup: wait for leaf %s to be empty: it holds %s: %w", l.name, some10(pids), err)
	}
	return fmt.Errorf("cgroup: wait for leaf %s to be empty: %w", l.name, err)
}

// Kill sends SIGKILL to every process in the leaf and does not wait. Without a
// v2 directory with cgroup.kill (kernel 5.14) it also closes the leaf to new
// processes for good. A leaf that is empty or gone is fine.
func (l *Leaf) Kill() error {
	return l.hold(func() error {
		if err := kill(l.nodes()); err != nil {
			return fmt.Errorf("cgroup: kill leaf %s: %w", l.name, err)
		}
		return nil
	})
}
