package native

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// setup builds the root and pivots into it. netnsBegun tells that the launcher
// has begun its network namespace already.
func (t template) setup(netnsBegun bool) ([]plan.Step, error) {
	var s steps
	r := t.r
	s.add(plan.MountPrivate, nil)
	if t.ownNetns() && !netnsBegun {
		s.add(plan.NetnsStart, nil)
	}
	s.fsmount(slotProc, inert, "proc") // before anything by pid: the host's /proc would name strangers
	s.attach(plan.Cwd, slotProc, 0, "/proc")
	s.fsmount(slotStage, hidden&^unix.MOUNT_ATTR_NODEV, "tmpfs", "mode=0755", "size=16m", "nr_inodes=4096")
	s.attach(plan.Cwd, slotStage, 0, stageAt)
	root := uint64(slotStage)
	if t.own {
		root = slotRoot
		if err := t.overlay(&s); err != nil {
			return nil, err
		}
	}
	t.skeleton(&s, root)
	for _, p := range []string{emptyDir, "/dev/null"} { // covers are cloned from here, and read-only because these are
		s.openTree(slotBind, 0, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID, root, p)
		s.attach(root, slotBind, noLinks, p)
	}
	for _, m := range r.Mounts {
		if err := t.mount(&s, root, m); err != nil {
			return nil, err
		}
	}
	s.openTree(slotBind, 0, 0, plan.Cwd, "/proc")
	s.attach(root, slotBind, noLinks, "/proc")
	if r.Root.Writable {
		s.openTree(slotBind, 0, 0, slotStage, "/scratch")
		s.attach(root, slotBind, noLinks, "/tmp")
	}
	s.add(plan.Pivot, n(root))
	if t.ownNetns() {
		s.add(plan.NetnsJoin, nil)
	}
	s.add(plan.OOMScore, n(1000+spawn.OOMScore))
	return s, nil
}

// overlay makes the root out of the user's tree and a layer of our own, which
// holds the mount points and, with a writable root, the actor's changes.
func (t template) overlay(s *steps) error {
	upper := stageAt
	for _, d := range []string{"/lower", "/scratch", "/root", "/u", "/w"} {
		s.mkdir(slotStage, d, 0o755)
	}
	lower, tree := t.r.Root.Path, uint64(slotTree)
	if t.r.Root.Kind == rootfs.Tar {
		tree = slotFiles // all in it is the program's already
	} else if err := errors.Join(t.openHost(s, slotTree, hidden, lower, true), t.idmap(s, slotTree, lower)); err != nil {
		return fmt.Errorf("root %s: %w", lower, err)
	}
	s.attach(slotStage, tree, 0, "/lower")
	if t.r.Root.Writable {
		t.scratch(s)
		s.attach(slotStage, plan.SlotScratch, 0, "/scratch")
		upper += "/scratch"
		uid, gid := plan.NoID, plan.NoID
		if h := t.r.Host; h != nil { // the layer's top directory becomes the root directory, which is the program's
			uid, gid = uint64(h.UID), uint64(h.GID)
		}
		s.add(plan.Mkdir, n(slotStage, 0o755, uid, gid, 0), "/scratch/u")
		s.mkdir(slotStage, "/scratch/w", 0o755)
	}
	options := []string{"lowerdir=" + stageAt + "/lower", "upperdir=" + upper + "/u", "workdir=" + upper + "/w"}
	if t.rootless {
		options = append(options, "userxattr")
	}
	s.fsmount(slotRoot, hidden, "overlay", options...)
	s.attach(slotStage, slotRoot, 0, "/root")
	return nil
}

// openHost takes hold of a tree of the host's.
func (t template) openHost(s *steps, slot, attrs uint64, p string, layer bool) error {
	if !t.rootless {
		s.openTree(slot, 0, attrs, plan.Cwd, p)
		return nil
	}
	if err := rootfs.Separable(p, layer); err != nil {
		return err
	}
	s.openTree(slot, plan.Recursive, attrs, plan.Cwd, p)
	return nil
}

// idmap makes what the owner of p owns on disk belong to the program. As root
// only: an ordinary user's single id is the owner's already.
func (t template) idmap(s *steps, slot uint64, p string) error {
	h := t.r.Host
	if t.rootless || t.owned || h == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return fmt.Errorf("stat %s: %w", p, err)
	}
	s.add(plan.Idmap, n(slot, uint64(st.Uid), uint64(h.UID), uint64(st.Gid), uint64(h.GID)))
	return nil
}

// scratch makes the superblock of everything writable.
func (t template) scratch(s *steps) {
	r := t.r
	uid, gid := 0, 0
	if h := r.Host; h != nil {
		uid, gid = h.InitUID, h.InitGID
	}
	s.fsmount(plan.SlotScratch, hidden, "tmpfs", "mode=0755", "size="+strconv.FormatInt(r.Scratch.Bytes, 10),
		"nr_inodes="+strconv.FormatInt(r.Scratch.Inodes, 10), "uid="+strconv.Itoa(uid), "gid="+strconv.Itoa(gid))
}

func (t template) skeleton(s *steps, root uint64) {
	r := t.r
	for _, e := range rootfs.Skeleton(r.Root, rootfs.Identity{UID: r.UID, GID: r.GID, Hostname: r.Hostname, HostNetwork: r.HostNetwork}) {
		if t.own && slices.Contains(ourDirs, e.Path) {
			s.mkdir(root, e.Path, e.Mode)
			s.fsmount(slotBind, hidden&^unix.MOUNT_ATTR_NODEV, "tmpfs", "mode=0755", "size=64k", "nr_inodes=64")
			s.attach(root, slotBind, noLinks, e.Path)
			continue
		}
		switch e.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			s.mkdir(root, e.Path, e.Mode|0o100)
			if e.Source != "" {
				s.openTree(slotBind, plan.Recursive, fixed, plan.Cwd, e.Source)
				s.attach(root, slotBind, 0, e.Path)
			}
		case unix.S_IFLNK:
			s.add(plan.Symlink, n(root), e.Text, e.Path)
		case unix.S_IFCHR:
			if !t.rootless {
				s.add(plan.Mknod, n(root, uint64(e.Mode), e.Device), e.Path)
				continue
			}
			s.add(plan.WriteFile, n(root, 0o666, plan.Exist), e.Path, "")
			s.openTree(slotBind, 0, 0, plan.Cwd, e.Path)
			s.attach(root, slotBind, noLinks, e.Path)
		case unix.S_IFREG:
			s.add(plan.WriteFile, n(root, uint64(e.Mode&0o777), plan.Exist), e.Path, e.Text)
			if e.Source != "" {
				s.openTree(slotBind, 0, fixed, plan.Cwd, e.Source)
				s.attach(root, slotBind, 0, e.Path)
			}
		}
	}
}

// mount lets a piece of the host in.
func (t template) mount(s *steps, root uint64, m rootfs.Mount) error {
	var st unix.Stat_t
	if err := unix.Stat(m.Source, &st); err != nil {
		return fmt.Errorf("mount %s: %w", m.Source, err)
	}
	parts := strings.Split(strings.Trim(path.Dir(m.Target), "/"), "/")
	for i := range parts {
		if p := strings.Join(parts[:i+1], "/"); p != "" {
			s.mkdir(root, "/"+p, 0o755)
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		s.mkdir(root, m.Target, 0o755)
	} else {
		s.add(plan.WriteFile, n(root, 0o644, plan.Exist), m.Target, "")
	}
	attrs := uint64(hidden)
	if !m.Writable {
		attrs = fixed
	}
	if err := t.openHost(s, slotBind, attrs, m.Source, false); err != nil {
		return fmt.Errorf("mount %s: %w", m.Source, err)
	}
	if err := t.idmap(s, slotBind, m.Source); err != nil {
		return err
	}
	s.attach(root, slotBind, 0, m.Target)
	return nil
}
