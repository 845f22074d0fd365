package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of removal.
const (
	removeWait = time.Second
	clearWait  = 2 * time.Second
	maxDepth   = 64 // of cgroups that an actor made below its own
)

// remove removes n and everything below it, retrying until deadline while it is
// busy. Nothing there is fine.
func (h *Host) remove(n node, deadline time.Time) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		err := h.removeOnce(n, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			pids, pidsErr := n.pids()
			if len(pids) > 0 {
				return fmt.Errorf("cgroup: still holds %s; kill them and wait first: %w", some10(pids), err)
			}
			return fmt.Errorf("cgroup: %w", errors.Join(err, pidsErr))
		}
		time.Sleep(pause)
	}
}

func (h *Host) removeOnce(n node, depth int) error {
	err := h.rmdir(n.dir, n.path)
	if err == nil || missing(err) {
		return nil
	}
	if err != unix.EBUSY && err != unix.ENOTEMPTY {
		return n.fail("remove", "", err)
	}
	if depth == maxDepth {
		return fmt.Errorf("%s is nested more than %d deep", n.abs, maxDepth)
	}
	below, listErr := n.children()
	if listErr != nil {
		return listErr
	}
	if len(below) == 0 {
		return n.fail("remove", "", unix.EBUSY)
	}
	for _, c := range below {
		if err := h.removeOnce(c, depth+1); err != nil {
			return err
		}
	}
	if err := h.rmdir(n.dir, n.path); err != nil && !missing(err) {
		return n.fail("remove", "", err)
	}
	return nil
}

// clear kills everything in n and removes it.
func (h *Host) clear(n node) error {
	err := h.removeOnce(n, 0)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), clearWait)
	defer cancel()
	if err := kill([]node{n}); err != nil {
		return fmt.Errorf("cgroup: kill what is in %s: %w", n.abs, err)
	}
	err = poll(ctx, n.populated)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("cgroup: empty %s: %w", n.abs, err)
	}
	return h.remove(n, time.Now().Add(removeWait)) // says who is left
}

// Sweep kills what a dead supervisor left and removes its folders. The caller
// vouches that the lease is dead. dirs is what its [Tree.Dirs] said, for a
// supervisor is not always started where the last one was. Only a folder of
// this very lease in a cgroup file system is touched; the dead supervisor's own
// leaf is removed only if empty, for what is in there was not an actor. Nothing
// to sweep is fine.
func Sweep(lease string, dirs ...string) error {
	host, err := Detect()
	if err != nil {
		return err
	}
	tree, err := host.Tree(lease)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		switch {
		case missing(err):
			continue
		case err != nil:
			err = fmt.Errorf("cgroup: sweep %s: %w", dir, err)
		case st.Type != unix.CGROUP_SUPER_MAGIC && st.Type != unix.CGROUP2_SUPER_MAGIC:
			err = fmt.Errorf("cgroup: sweep %s: not in a cgroup file system; left alone", dir)
		default:
			err = tree.sweep(dir, st.Type == unix.CGROUP2_SUPER_MAGIC)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t *Tree) sweep(dir string, unified bool) error {
	switch base := path.Base(dir); {
	case !path.IsAbs(dir) || path.Clean(dir) != dir:
		return fmt.Errorf("cgroup: sweep %s: not a clean absolute path; left alone", dir)
	case base == folderPrefix+t.lease:
		return t.host.clear(nodeAt(dir, unified))
	case base == supervisorPrefix+t.lease:
		if err := t.host.rmdir(unix.AT_FDCWD, dir); err != nil && !missing(err) {
			return fmt.Errorf("cgroup: sweep %s: what the dead supervisor started beside its actors still lives there: %w", dir, err)
		}
		return nil
	}
	return fmt.Errorf("cgroup: sweep %s: not named for lease %s; left alone", dir, t.lease)
}
