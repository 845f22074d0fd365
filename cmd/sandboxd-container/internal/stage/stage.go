// Package stage builds the root of one container, out of mounts that only this
// process's mount namespace has, as package sandboxd/spawn/native builds its own.
//
//	err := stage.Open()            // once: this namespace becomes ours
//	s, err := stage.Build("1", j)
//	defer s.Close()                // the container has its own copy of the mounts
//
// Non-goals: what libcontainer does itself: /proc, /dev/pts, masks, the pivot.
package stage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/rootfs/unpack"
	"sandboxd/spawn/container/job"
)

// at is where stages are: package rootfs lets nobody in who is below /sys.
const at = "/sys/devices"

// State is where libcontainer may keep what it writes.
const State = at + "/state"

// Stage is the root of one container in the making.
type Stage struct {
	Root     string   // the directory that becomes "/"
	Listener *os.File // of the actor's socket
	Scratch  *os.File // the writable layer, nil without one

	dir  string
	root root
}

// Open makes the mount namespace ours: nothing made here shows on the host, a
// /proc shows this pid namespace, and nobody below can write to any cgroup.
func Open() error {
	unix.Umask(0)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	err := unix.MountSetattr(unix.AT_FDCWD, "/sys/fs/cgroup", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // none, or no mount
		return fmt.Errorf("make cgroups read-only: %w", err)
	}
	if err := unix.Mount("stage", at, "tmpfs", unix.MS_NOSUID, "mode=0711,size=64m"); err != nil {
		return fmt.Errorf("mount the stage: %w", err)
	}
	return os.Mkdir(State, 0o711)
}

// Build makes the root of j. name is one that no other stage has.
func Build(name string, j *job.Job) (_ *Stage, err error) {
	s := &Stage{dir: at + "/" + name}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("root", s.dir, "tmpfs", unix.MS_NOSUID, "mode=0755,size=16m,nr_inodes=4096"); err != nil {
		return nil, fmt.Errorf("mount the root: %w", err)
	}
	s.Root = s.dir + "/root"
	if err := os.Mkdir(s.Root, 0o755); err != nil {
		return nil, err
	}
	own := j.Root.Kind == rootfs.Dir || j.Root.Kind == rootfs.Tar
	if j.Scratch.Bytes > 0 {
		if err := s.scratch(j); err != nil {
			return nil, err
		}
	}
	if own {
		if err := s.overlay(j); err != nil {
			return nil, fmt.Errorf("root %s: %w", j.Root.Path, err)
		}
	}
	f, err := os.OpenFile(s.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s.root = root{f}
	steps := []func() error{
		func() error { return s.skeleton(j, own) },
		func() error { return s.mounts(j) },
		s.writable,
		func() error { return s.listen(j) },
		func() error { return s.fix(own) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close forgets the stage; a container that was made of it keeps its own copy.
func (s *Stage) Close() {
	for _, f := range []*os.File{s.root.File, s.Listener, s.Scratch} {
		if f != nil {
			f.Close()
		}
	}
	_ = unix.Unmount(s.dir, unix.MNT_DETACH)
	_ = os.Remove(s.dir)
}

// place mounts what is detached at a path of ours, which is made.
func place(tree *os.File, p string) error {
	if err := os.Mkdir(p, 0o755); err != nil {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, p, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", tree.Name(), err)
	}
	return nil
}

// scratch makes the superblock of everything writable, and the places on it.
func (s *Stage) scratch(j *job.Job) error {
	h := &j.Host
	f, err := fsmount("tmpfs", hidden, "mode=0755", "size="+strconv.FormatInt(j.Scratch.Bytes, 10), "nr_inodes="+strconv.FormatInt(j.Scratch.Inodes, 10),
		"uid="+strconv.Itoa(h.InitUID), "gid="+strconv.Itoa(h.InitGID))
	if err != nil {
		return err
	}
	s.Scratch = f
	at := s.dir + "/scratch"
	if err := place(f, at); err != nil {
		return err
	}
	dirs := map[string]uint32{"home": 0o700, "shm": 0o1777, "tmp": 0o1777}
	if j.Root.Writable {
		dirs["u"], dirs["w"] = 0o755, 0o755
	}
	for name, mode := range dirs {
		p := at + "/" + name
		if err := errors.Join(unix.Mkdir(p, mode), unix.Chown(p, h.UID, h.GID)); err != nil {
			return fmt.Errorf("make %s of the writable layer: %w (raise --disk or --disk-inodes)", name, err)
		}
	}
	if j.Root.Writable {
		return unix.Chown(at+"/w", 0, 0)
	}
	return nil
}

// overlay makes the root of the user's tree and a layer that holds the mount
// points and, with a writable root, the actor's changes.
func (s *Stage) overlay(j *job.Job) error {
	lower, err := s.lower(j)
	if err != nil {
		return err
	}
	defer lower.Close()
	if err := place(lower, s.dir+"/lower"); err != nil {
		return err
	}
	upper := s.dir + "/scratch"
	if !j.Root.Writable {
		upper = s.dir + "/upper"
		for _, d := range []string{upper, upper + "/u", upper + "/w"} {
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
	}
	options := []string{"lowerdir=" + s.dir + "/lower", "upperdir=" + upper + "/u", "workdir=" + upper + "/w"}
	if j.Rootless {
		options = append(options, "userxattr")
	}
	f, err := fsmount("overlay", hidden, options...)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, s.Root, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// lower is the user's tree, the program's.
func (s *Stage) lower(j *job.Job) (*os.File, error) {
	if j.Root.Kind == rootfs.Tar {
		return unpacked(j)
	}
	return theirs(j, j.Root.Path, hidden, true)
}

// theirs is a tree of the host's. As root its owner's files become the
// program's by an id-map. An ordinary user may make none: there the program has
// the owner's id itself, where it is to use them. A layer of an overlay must be one file system.
func theirs(j *job.Job, p string, attrs uint64, layer bool) (*os.File, error) {
	if j.Rootless {
		if err := rootfs.Separable(p, layer); err != nil {
			return nil, err
		}
		return openTree(p, unix.AT_RECURSIVE, attrs)
	}
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", p, err)
	}
	f, err := openTree(p, 0, attrs)
	if err != nil {
		return nil, err
	}
	if err := idmap(f, int(st.Uid), j.Host.UID, int(st.Gid), j.Host.GID); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unpacked fills a file system in memory with an archive, as the program, so that all of it is the program's.
func unpacked(j *job.Job) (*os.File, error) {
	archive, err := os.Open(j.Root.Path)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	var info unix.Sysinfo_t
	bytes := int64(2 << 30)
	if unix.Sysinfo(&info) == nil {
		bytes = min(bytes, int64(info.Totalram)*int64(info.Unit)/2)
	}
	files := bytes >> 12
	h := &j.Host
	tree, err := fsmount("tmpfs", hidden, "mode=0755", "size="+strconv.FormatInt(bytes, 10), "nr_inodes="+strconv.FormatInt(files+1, 10),
		"uid="+strconv.Itoa(h.UID), "gid="+strconv.Itoa(h.GID))
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	gid, _ := unix.SetfsgidRetGid(h.GID) // gives the id before, and no error
	uid, _ := unix.SetfsuidRetUid(h.UID)
	_, err = unpack.Tar(context.Background(), tree, archive, unpack.Options{Bytes: bytes, Entries: int(files)})
	_, _ = unix.SetfsuidRetUid(uid)
	_, _ = unix.SetfsgidRetGid(gid)
	runtime.UnlockOSThread()
	if err != nil {
		tree.Close()
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unpack.ErrTooLarge) || errors.Is(err, unpack.ErrTooMany) {
			err = fmt.Errorf("%w (an archive is unpacked into memory, %d MiB and %d files at most; unpack a larger one yourself and name the directory)", err, bytes>>20, files)
		}
		return nil, err
	}
	return tree, nil
}

// ourDirs are mounts of our own in a root of the user's: neither devices nor
// sockets lie among the user's files, where a link could lead them elsewhere.
var ourDirs = []string{"/dev", "/run/sandboxd"}

func (s *Stage) skeleton(j *job.Job, own bool) error {
	for _, e := range rootfs.Skeleton(j.Root, rootfs.Identity{UID: j.UID, GID: j.GID, Hostname: j.Hostname, HostNetwork: j.HostNetwork}) {
		if err := s.entry(j, e, own); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stage) entry(j *job.Job, e rootfs.Entry, own bool) error {
	r := s.root
	switch {
	case own && slices.Contains(ourDirs, e.Path):
		if err := r.mkdir(e.Path, e.Mode); err != nil {
			return err
		}
		f, err := fsmount("tmpfs", unix.MOUNT_ATTR_NOSUID, "mode=0755", "size=64k", "nr_inodes=64")
		if err != nil {
			return err
		}
		defer f.Close()
		return r.attach(f, e.Path, true)
	case e.Mode&unix.S_IFMT == unix.S_IFLNK:
		return r.make(e.Path, func(dir int, base string) error { return unix.Symlinkat(e.Text, dir, base) })
	case e.Mode&unix.S_IFMT == unix.S_IFCHR && j.Rootless: // who may make none shows the host's
		if err := r.file(e.Path, 0o666, ""); err != nil {
			return err
		}
		return r.bind(e.Path, e.Path, 0, 0, true)
	case e.Mode&unix.S_IFMT == unix.S_IFCHR:
		return r.make(e.Path, func(dir int, base string) error { return unix.Mknodat(dir, base, e.Mode, int(e.Device)) })
	}
	var err error
	recursive := uint(0)
	if e.Mode&unix.S_IFMT == unix.S_IFDIR {
		recursive = unix.AT_RECURSIVE
		err = r.mkdir(e.Path, e.Mode|0o100)
	} else {
		err = r.file(e.Path, e.Mode, e.Text)
	}
	if err != nil || e.Source == "" {
		return err
	}
	return r.bind(e.Source, e.Path, recursive, fixed, false)
}

// mounts let pieces of the host in.
func (s *Stage) mounts(j *job.Job) error {
	for _, m := range j.Mounts {
		if err := s.mount(j, m); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Target, err)
		}
	}
	return nil
}

func (s *Stage) mount(j *job.Job, m rootfs.Mount) error {
	st, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	parts := strings.Split(strings.Trim(path.Dir(m.Target), "/"), "/")
	for i := range parts {
		if p := strings.Join(parts[:i+1], "/"); p != "" {
			if err := s.root.mkdir("/"+p, 0o755); err != nil {
				return err
			}
		}
	}
	if st.IsDir() {
		err = s.root.mkdir(m.Target, 0o755)
	} else {
		err = s.root.file(m.Target, 0o644, "")
	}
	if err != nil {
		return err
	}
	attrs := uint64(hidden)
	if !m.Writable {
		attrs = fixed
	}
	tree, err := theirs(j, m.Source, attrs, false)
	if err != nil {
		return err
	}
	defer tree.Close()
	return s.root.attach(tree, m.Target, false)
}

// writable shows the writable places, all on one superblock so that one limit holds for them together.
func (s *Stage) writable() error {
	if s.Scratch == nil {
		return nil
	}
	for _, p := range [][2]string{{"home", rootfs.Home}, {"shm", "/dev/shm"}, {"tmp", "/tmp"}} {
		if err := s.root.bind(s.dir+"/scratch/"+p[0], p[1], 0, 0, true); err != nil {
			return err
		}
	}
	return nil
}

// listen makes the actor's socket. Anybody may connect who finds it, for whom
// the peer's id is a stranger's: its directory and the handshake guard it.
func (s *Stage) listen(j *job.Job) error {
	name := s.dir + "/peer.sock"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	s.Listener = os.NewFile(uintptr(fd), "peer.sock")
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 8)); err != nil {
		return fmt.Errorf("listen at the actor's socket: %w", err)
	}
	return s.root.bind(name, j.Socket, 0, 0, true)
}

// fix makes what is ours in a root of the user's read-only; libcontainer does it for the rest.
func (s *Stage) fix(own bool) error {
	if fd, err := s.root.open("/proc", unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS); err != nil { // where libcontainer mounts
		return fmt.Errorf("/proc of the root: %w (replace it by a directory)", err)
	} else {
		unix.Close(fd)
	}
	if !own {
		return nil
	}
	for _, d := range ourDirs {
		fd, err := s.root.open(d, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return err
		}
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("make %s read-only: %w", d, err)
		}
	}
	return nil
}
