package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Leaf is the cgroup of one actor: one directory in each hierarchy that it
// needs. It holds no descriptor, so any number may live. Safe for concurrent
// use; after Remove or Tree.Close its methods fail.
type Leaf struct {
	tree   *Tree
	name   string // below each place; that of a leaf within others is a path
	places []*place
	group  []Controller // of a group: what each place gives to those below
	within []Controller // of one below a group: the same of that group; nil: what the places have
}

// Leaf makes a leaf with its limits in force. A host that cannot enforce one of
// them for this caller gives an [*Unavailable] and makes nothing.
func (t *Tree) Leaf(name string, limits Limits) (*Leaf, error) {
	if err := checkName("leaf", name); err != nil {
		return nil, err
	}
	if err := limits.Check(); err != nil {
		return nil, err
	}
	if t.solo {
		name = folderPrefix + t.lease
	}
	places, err := t.reach(limits.needs())
	if err != nil {
		return nil, err
	}
	l := &Leaf{tree: t, name: name, places: places}
	if err := l.make(limits); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Leaf) make(limits Limits) error {
	t := l.tree
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return ErrClosed
	}
	undo := func(made int, err error) error {
		for _, p := range l.places[:made] {
			err = errors.Join(err, t.host.removeOnce(p.leaf(l.name), 0))
		}
		return err
	}
	for i, p := range l.places {
		if err := t.host.mkdir(p.fd, l.name); err != nil {
			return undo(i, fmt.Errorf("cgroup: make leaf %s/%s: %w", p.abs, l.name, err))
		}
	}
	for i, p := range l.places {
		if err := limits.create(p.leaf(l.name), l.has(i)); err != nil {
			return undo(len(l.places), err)
		}
	}
	if limits.Group {
		if err := l.divide(); err != nil {
			return undo(len(l.places), err)
		}
	}
	return nil
}

// has are the controllers of the leaf at a place.
// Preconditions: l.tree.mu is held for reading.
func (l *Leaf) has(i int) Controller {
	if l.within != nil {
		return l.within[i]
	}
	return l.places[i].has
}

// at returns the node whose controllers include c, and whether there is one: a
// controller is in one hierarchy only, save CPUTime, for which v2 comes first.
// Preconditions: l.tree.mu is held for reading.
func (l *Leaf) at(c Controller) (node, bool) {
	for i, p := range l.places {
		if l.has(i)&c != 0 {
			return p.leaf(l.name), true
		}
	}
	return node{}, false
}

// nodes are the directories of the leaf, the v2 one first.
// Preconditions: l.tree.mu is held for reading.
func (l *Leaf) nodes() []node {
	nodes := make([]node, len(l.places))
	for i, p := range l.places {
		nodes[i] = p.leaf(l.name)
	}
	return nodes
}

// hold keeps the tree open while f works on the leaf.
func (l *Leaf) hold(f func() error) error {
	l.tree.mu.RLock()
	defer l.tree.mu.RUnlock()
	if l.tree.closed {
		return ErrClosed
	}
	return f()
}

// Join opens the ways in, for one process: into, nil where there is no v2
// directory, is for clone3(2) with CLONE_INTO_CGROUP, and the child then writes
// "0" to each of tasks, single-threaded. Both must be done for the leaf's
// limits to be whole. The caller owns the files and closes them once the child
// runs; they are close-on-exec, and must never be left open in the actor.
func (l *Leaf) Join() (tasks []*os.File, into *os.File, err error) {
	err = l.hold(func() error {
		for i := range l.places {
			n := l.entry(i)
			file, flags := "tasks", unix.O_WRONLY
			if n.unified {
				file, flags = ".", unix.O_RDONLY|unix.O_DIRECTORY
			}
			fd, err := n.open(file, flags)
			if err != nil {
				return fmt.Errorf("cgroup: join leaf %s: %w", l.name, err)
			}
			f := os.NewFile(uintptr(fd), n.abs+"/"+file)
			if n.unified {
				into = f
			} else {
				tasks = append(tasks, f)
			}
		}
		return nil
	})
	if err != nil {
		for _, f := range tasks {
			f.Close()
		}
		into.Close() // a nil file answers with an error, which nobody needs
		return nil, nil, err
	}
	return tasks, into, nil
}

// Holds tells which controllers of the leaf bind a process, given in the number
// of our pid namespace: those in whose directory the kernel lists it.
func (l *Leaf) Holds(pid int) (c Controller, err error) {
	err = l.hold(func() error {
		for i := range l.places {
			pids, err := l.entry(i).procs()
			if err != nil {
				return err
			}
			if slices.Contains(pids, pid) {
				c |= l.has(i)
			}
		}
		return nil
	})
	return c, err
}

// Dirs returns the absolute directories of the leaf, the v2 one first: for
// reports, and for backends that want paths.
func (l *Leaf) Dirs() []string {
	var dirs []string
	for _, p := range l.places {
		dirs = append(dirs, p.abs+"/"+l.name)
	}
	return dirs
}

// Remove removes the leaf, leaves below it, and cgroups that the actor may have made there.
// It waits a second at most for the last process to leave, and kills none: a
// leaf that still holds processes is an error that names them and wraps
// [unix.EBUSY]. What is removed already is fine.
func (l *Leaf) Remove() error {
	return l.hold(func() error {
		var errs []error
		deadline := time.Now().Add(removeWait)
		for _, n := range slices.Backward(l.nodes()) {
			if err := l.tree.host.remove(n, deadline); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}
