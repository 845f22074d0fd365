package cgroup

import "sync"

// aside is how this process left a cgroup of its own, for all of its trees there.
type aside struct {
	lease string     // of the tree that moved us, names where we are
	on    Controller // what was enabled since
	trees int
}

var (
	moving sync.Mutex // held while trees choose their places, and come and go
	asides sync.Map   // the cgroup that was left: its *aside
)

// leave has this process leave want.dir if it must, and keeps it away until the
// tree is closed; nil if it is not away. Preconditions: t.mu and moving are held.
func (t *Tree) leave(want target) (*aside, error) {
	v, left := asides.Load(want.dir)
	if !left && !want.move {
		return nil, nil
	}
	if !left {
		v = &aside{lease: t.lease}
		asides.Store(want.dir, v)
	}
	a := v.(*aside)
	if t.moved == "" {
		t.moved = want.dir // half way, too
		a.trees++
	}
	if left {
		return a, nil
	}
	return a, t.host.moveAside(want.dir, t.lease)
}

// comeBack undoes leave; the last tree moves the process back. Preconditions:
// t.mu is held.
func (t *Tree) comeBack() error {
	moving.Lock()
	defer moving.Unlock()
	v, _ := asides.Load(t.moved)
	a := v.(*aside)
	if a.trees == 1 {
		if err := t.host.moveBack(t.moved, a.lease, a.on); err != nil {
			return err
		}
		asides.Delete(t.moved)
	}
	a.trees--
	t.moved = ""
	return nil
}
