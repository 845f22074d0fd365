package cgroup

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// A group is a leaf with leaves below it. On v1 its own processes and the
// directories of the others lie side by side in it. A v2 cgroup that hands
// controllers down holds no processes, so there its own are in a leaf "self".
const self = "self"

// maxNested is how many leaves may be within each other. What actors make below
// their own must fit into maxDepth as well.
const maxNested = 32

// divide makes a group of a fresh leaf.
// Preconditions: l.tree.mu is held for reading.
func (l *Leaf) divide() error {
	l.group = make([]Controller, len(l.places))
	for i, p := range l.places {
		n := p.leaf(l.name)
		l.group[i] = l.has(i)
		switch on := l.group[i] & v2Controllers; {
		case n.unified && on != 0:
			if err := n.write("cgroup.subtree_control", switchV2("+", on)); err != nil {
				return fmt.Errorf("cgroup: have %s hand down %s: %w", n.abs, on, err)
			}
			if err := l.tree.host.mkdir(p.fd, l.name+"/"+self); err != nil {
				return fmt.Errorf("cgroup: make %s/%s: %w", n.abs, self, err)
			}
		case !n.unified && on&Memory != 0: // since 5.11 all are
			if err := n.write("memory.use_hierarchy", "1"); err != nil && !missing(err) {
				return fmt.Errorf("cgroup: have %s count what is below it: %w", n.abs, err)
			}
		}
	}
	return nil
}

// entry is where the leaf's own processes are at a place.
// Preconditions: l.tree.mu is held for reading.
func (l *Leaf) entry(i int) node {
	p := l.places[i]
	if l.group != nil && p.unified && l.group[i]&v2Controllers != 0 {
		return p.leaf(l.name + "/" + self)
	}
	return p.leaf(l.name)
}

// Leaf makes a leaf below l, which was made with Limits.Group, and in all of
// its hierarchies: whatever it is limited to itself, it is within l's limits.
// Kill, WaitEmpty, Usage, Events and Remove of l cover it; what v1 counted of
// events goes with it. A controller that l was made without cannot be had.
//
// More CPU than l may use is an [*Unavailable] on v1; on v2 the tighter limit wins.
func (l *Leaf) Leaf(name string, limits Limits) (*Leaf, error) {
	if err := checkName("leaf", name); err != nil {
		return nil, err
	}
	if err := limits.Check(); err != nil {
		return nil, err
	}
	switch {
	case l.group == nil:
		return nil, fmt.Errorf("cgroup: make leaf %s below leaf %s: that one was made without Limits.Group", name, l.name)
	case name == self:
		return nil, fmt.Errorf("cgroup: make leaf %s below leaf %s: its own processes have that name; take another one", name, l.name)
	case strings.Count(l.name, "/")+2 > maxNested:
		return nil, fmt.Errorf("cgroup: make leaf %s below leaf %s: %d leaves are within each other already", name, l.name, maxNested)
	}
	var all Controller
	for _, has := range l.group {
		all |= has
	}
	if lack := limits.needs() &^ all; lack != 0 {
		return nil, fmt.Errorf("cgroup: limit %s of leaf %s/%s: the leaf above was made without; name it in Limits.Account when making that", lack, l.name, name)
	}
	below := &Leaf{tree: l.tree, name: l.name + "/" + name, places: l.places, within: l.group}
	if err := below.make(limits); err != nil {
		return nil, err
	}
	return below, nil
}

// sum reads events of n, and where it does not count those below it by itself, of them too.
func (l *Leaf) sum(n node, counts bool, read func(node, *Events) error, e *Events) error {
	if err := read(n, e); err != nil || l.group == nil || counts {
		return err
	}
	below, err := n.children()
	if missing(err) {
		return nil
	}
	for _, c := range below {
		one := Events{-1, -1, -1, -1, -1}                                     // read sets what it knows
		if err := l.sum(c, counts, read, &one); err != nil && !missing(err) { // it may be gone by now
			return err
		}
		for _, k := range [][2]*int64{{&e.OOMKills, &one.OOMKills}, {&e.MemoryMax, &one.MemoryMax}, {&e.PIDsMax, &one.PIDsMax}} {
			if *k[1] > 0 {
				*k[0] = none(*k[0]) + *k[1]
			}
		}
	}
	return err
}

// sumsForks tells whether refused forks below n are counted in n: on v2 by
// kernels that have a local count as well (6.11). Elsewhere they are counted
// where the process was, not where the limit is.
func (n node) sumsForks() bool {
	if !n.unified {
		return false
	}
	fd, err := n.open("pids.events.local", unix.O_PATH)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}
