package sandbox

import (
	"context"
	"errors"
	"fmt"

	"sandboxd/sandbox/cgroup"
)

// startBelow starts an actor as the child of another one, whose Spec has nest:
// in a cgroup within the parent's, whose limits hold for both together. When
// the parent ends, its children are ended, and are gone before it is.
func (h *Host) startBelow(ctx context.Context, parent *Process, s Spec) (*Process, error) {
	switch {
	case h.one:
		return nil, errors.New("start below an actor: the host was opened for one actor only; leave Options.Only nil")
	case !parent.res.spec.nest:
		return nil, fmt.Errorf("start below actor %s: it was not started as one that may have others below it", parent.id)
	}
	return h.start(ctx, parent, s)
}

// adopt makes a child visible to its parent's end in the same step in which it starts to exist.
func (a *Process) adopt(kid *Process) error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over || a.why != "" {
		return fmt.Errorf("start below actor %s: it has ended", a.id)
	}
	if a.kids == nil {
		a.kids = map[*Process]struct{}{}
	}
	a.kids[kid] = struct{}{}
	return nil
}

func (a *Process) disown(kid *Process) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kids, kid)
}

// endKids ends what was started below. Nothing is added once a is over, or is being ended.
func (a *Process) endKids() (left []*Process) {
	a.mu.Lock()
	for kid := range a.kids {
		left = append(left, kid)
	}
	a.mu.Unlock()
	for _, kid := range left {
		kid.end(Cancelled, "its parent "+a.id+" has ended")
	}
	return left
}

// holds tells whether the actor has a cgroup, which binds its children too.
func (a *Process) holds() bool { return a != nil && a.leaf != nil }

// place makes a leaf where the actor belongs.
func (a *Process) place(name string, limits cgroup.Limits) (*cgroup.Leaf, error) {
	if a.parent.holds() {
		return a.parent.leaf.Leaf(name, limits)
	}
	return a.host.tree.Leaf(name, limits)
}
