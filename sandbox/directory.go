package sandbox

import (
	"context"
	"slices"
	"sync"
)

// directory knows the actors of a tree that live and are ready, by name and by
// id. An entry is a lease on the life itself: it goes when that does.
type directory struct {
	mu      sync.Mutex
	byID    map[string]entry
	byName  map[string][]entry // in the order in which they became ready
	changed chan struct{}
}

type entry struct {
	a *Actor
	l *life
}

func newDirectory() *directory {
	return &directory{byID: map[string]entry{}, byName: map[string][]entry{}, changed: make(chan struct{})}
}

func (d *directory) add(a *Actor, l *life) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := entry{a, l}
	d.byID[l.ref.ID] = e
	d.byName[l.ref.Name] = append(d.byName[l.ref.Name], e)
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *directory) remove(l *life) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byID, l.ref.ID)
	list := slices.DeleteFunc(d.byName[l.ref.Name], func(e entry) bool { return e.l == l })
	if d.byName[l.ref.Name] = list; len(list) == 0 {
		delete(d.byName, l.ref.Name)
	}
}

func (d *directory) find(name string) (all []*Actor, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.byName[name] {
		all = append(all, e.a)
	}
	return all, d.changed
}

func (d *directory) id(id string) (entry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.byID[id]
	return e, ok
}

// Find gives the ready actors of that name in the whole tree, the first to be
// ready first; several may have it. An actor goes when its connection or its process does.
func (n *Nursery) Find(name string) []*Actor {
	all, _ := n.dir.find(name)
	return all
}

// Await waits until an actor of the tree has that name and is ready. The error
// is the cause for which ctx, or the nursery, ended.
func (n *Nursery) Await(ctx context.Context, name string) (*Actor, error) {
	for {
		all, changed := n.dir.find(name)
		if len(all) > 0 {
			return all[0], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-n.ctx.Done():
			return nil, context.Cause(n.ctx)
		}
	}
}
