package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Tree is the folder sandboxd-<lease> in each hierarchy that a leaf needed so
// far. Safe for concurrent use. Close it, after its leaves.
//
// On a unified hierarchy a cgroup that hands controllers down may not hold
// processes. A delegated cgroup that holds just us and what we started is
// therefore divided on first need: all of us move into its leaf
// sandboxd-supervisor-<lease>, and the last Close moves us back. Controllers that the
// true root had to be told to hand down stay handed down: others may rely on
// them by then.
type Tree struct {
	host  *Host
	lease string
	solo  bool // of one leaf, which is named as the folder would be

	mu     sync.RWMutex // guards the rest; held for reading during every use of a place
	places []*place
	byNeed map[Controller][]*place
	moved  string // the cgroup that this process left for us, a key of asides, or ""
	closed bool
}

// place is one folder of a tree.
type place struct {
	target
	fd   int // O_PATH
	abs  string
	solo bool // no folder: the one leaf takes its place
}

// leaf is the node of one leaf in p.
func (p *place) leaf(name string) node {
	return node{dir: p.fd, path: name, abs: p.abs + "/" + name, unified: p.unified}
}

// Tree names the folder for one lease, a name that no other live supervisor
// uses; nothing is written yet.
//
// The folder is placed below the caller's own cgroup, with one exception: for
// root on a unified host, in a cgroup that is not delegated, it is placed below
// the root of the hierarchy, where a limit on the caller does not bind it.
func (h *Host) Tree(lease string) (*Tree, error) {
	if err := checkName("lease", lease); err != nil {
		return nil, err
	}
	return &Tree{host: h, lease: lease, byNeed: make(map[Controller][]*place)}, nil
}

// Solo is a Tree for a supervisor of one actor. It has no folder; its one leaf,
// whatever name it is given, takes the folder's place, which saves a directory
// to make and to remove in each hierarchy. Only where v2 hands controllers down
// there is a folder: others (systemd at the true root, a supervisor beside us in
// a delegated cgroup) take controllers back, limits and all, and the kernel
// refuses that only while a cgroup below hands them down further.
func (h *Host) Solo(lease string) (*Tree, error) {
	t, err := h.Tree(lease)
	if err == nil {
		t.solo = true
	}
	return t, err
}

// Dirs returns, before anything is made, every directory that this tree could
// make for itself: what to write down for [Sweep], should this process not
// live to call Close.
func (t *Tree) Dirs() []string {
	h := t.host
	var dirs []string
	for _, hier := range h.v1 {
		dirs = append(dirs, hier.own+"/"+folderPrefix+t.lease)
	}
	if h.v2 != nil {
		base := h.v2base()
		dirs = append(dirs, base+"/"+folderPrefix+t.lease)
		if h.v2.root != base {
			dirs = append(dirs, h.v2.root+"/"+folderPrefix+t.lease)
		}
		dirs = append(dirs, base+"/"+supervisorPrefix+t.lease)
	}
	return dirs
}

// reach returns the places of a leaf with these needs, made if they are new.
func (t *Tree) reach(need Controller) ([]*place, error) {
	t.mu.RLock()
	places, ok := t.byNeed[need]
	closed := t.closed
	t.mu.RUnlock()
	if ok || closed {
		return places, closedErr(closed)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	moving.Lock()
	defer moving.Unlock()
	targets, err := t.host.targets(need)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		p, err := t.place(target)
		if err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	t.byNeed[need] = places
	return places, nil
}

func closedErr(closed bool) error {
	if closed {
		return ErrClosed
	}
	return nil
}

// place makes the folder for a target. Preconditions: t.mu and moving are held.
func (t *Tree) place(want target) (*place, error) {
	a, err := t.leave(want)
	if err != nil {
		return nil, err
	}
	if want.enable != 0 {
		if err := t.host.handDown(want, t.lease); err != nil {
			return nil, fmt.Errorf("cgroup: have %s hand down %s: %w", want.dir, want.enable, err)
		}
		if a != nil {
			a.on |= want.enable
		}
	}
	i := slices.IndexFunc(t.places, func(p *place) bool { return p.dir == want.dir })
	if i < 0 {
		p, err := t.folder(want)
		if err != nil {
			return nil, err
		}
		t.places = append(t.places, p)
		i = len(t.places) - 1
	}
	p := t.places[i]
	if on := want.has & v2Controllers; want.unified && on != 0 && !p.solo {
		if err := nodeAt(p.abs, true).write("cgroup.subtree_control", switchV2("+", on)); err != nil {
			return nil, fmt.Errorf("cgroup: have %s hand down %s: %w", p.abs, on, err)
		}
		p.has |= on
	}
	return p, nil
}

func (t *Tree) folder(want target) (*place, error) {
	abs := want.dir + "/" + folderPrefix + t.lease
	if t.solo && (!want.unified || want.has&v2Controllers == 0) {
		fd, err := unix.Open(want.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, fmt.Errorf("cgroup: open %s: %w", want.dir, err)
		}
		return &place{target: want, fd: fd, abs: want.dir, solo: true}, nil
	}
	switch err := t.host.mkdir(unix.AT_FDCWD, abs); {
	case errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("cgroup: make folder %s: %w: a supervisor that takes its leases elsewhere lives there, or one died there; share its lease directory, or remove what is in it", abs, err)
	case err != nil:
		return nil, fmt.Errorf("cgroup: make folder %s: %w", abs, err)
	}
	fd, err := unix.Open(abs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("cgroup: open folder %s: %w", abs, errors.Join(err, t.host.rmdir(unix.AT_FDCWD, abs)))
	}
	return &place{target: want, fd: fd, abs: abs}, nil
}

// Close kills what is left in the tree, removes its folders and moves this
// process back if it was moved aside. An error names what is left; calling
// again tries again. After success further calls return nil.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	var errs []error
	t.places = slices.DeleteFunc(t.places, func(p *place) bool {
		ours := p.abs
		if p.solo {
			ours += "/" + folderPrefix + t.lease
		}
		if err := t.host.clear(nodeAt(ours, p.unified)); err != nil {
			errs = append(errs, err)
			return false
		}
		unix.Close(p.fd)
		return true
	})
	if t.moved != "" && len(errs) == 0 {
		errs = append(errs, t.comeBack())
	}
	return errors.Join(errs...)
}
