package stage

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	hidden = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	fixed  = hidden | unix.MOUNT_ATTR_RDONLY
)

// fsmount makes a superblock of its own, mounted nowhere. Options are "key=value", or a key alone.
func fsmount(fstype string, attrs int, options ...string) (*os.File, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		key, val, valued := strings.Cut(o, "=")
		set := func() error { return unix.FsconfigSetString(fs, key, val) }
		if !valued {
			set = func() error { return unix.FsconfigSetFlag(fs, key) }
		}
		if err := set(); err != nil {
			return nil, fmt.Errorf("fsconfig %s %s: %w", fstype, o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("make %s: %w", fstype, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, fmt.Errorf("fsmount %s: %w", fstype, err)
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// openTree takes hold of a tree as it is now, to mount it elsewhere.
func openTree(p string, flags uint, attrs uint64) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, p, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, fmt.Errorf("open %s to mount it: %w", p, err)
	}
	f := os.NewFile(uintptr(fd), p)
	if attrs == 0 {
		return f, nil
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attrs}); err != nil {
		f.Close()
		return nil, fmt.Errorf("attributes of the mount of %s: %w", p, err)
	}
	return f, nil
}

// idmap shows what belongs to ids on disk as belonging to others.
func idmap(tree *os.File, diskUID, seenUID, diskGID, seenGID int) error {
	ns, err := userns(diskUID, seenUID, diskGID, seenGID)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("id-map %s: %w (its file system cannot be id-mapped; copy it to ext4, xfs or btrfs, or to tmpfs since Linux 6.3)", tree.Name(), err)
	}
	if err != nil {
		return fmt.Errorf("id-map %s: %w", tree.Name(), err)
	}
	return nil
}

// userns is a user namespace that maps one uid and one gid. It takes a process
// to make one; this one is stopped at its exec, before it does anything.
func userns(uid, hostUID, gid, hostGID int) (*os.File, error) {
	runtime.LockOSThread() // who traces is a thread
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, Ptrace: true, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: hostUID, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: hostGID, Size: 1}},
	}})
	if err != nil {
		return nil, fmt.Errorf("make a user namespace for id-mapping: %w", err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	_ = p.Kill()
	_, _ = p.Wait()
	return ns, err
}

// root is a directory below which paths are resolved: whatever links it holds, none leads out of it.
type root struct{ *os.File }

func (r root) open(p string, flags int, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve}
	for range 1000 { // EAGAIN: something was renamed meanwhile, which others can do all the time
		fd, err := unix.Openat2(int(r.Fd()), p, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// attach mounts what is detached at p. With noLinks p itself must not be behind any.
func (r root) attach(tree *os.File, p string, noLinks bool) error {
	var resolve uint64
	if noLinks {
		resolve = unix.RESOLVE_NO_SYMLINKS
	}
	at, err := r.open(p, unix.O_PATH, resolve)
	if err == unix.ELOOP {
		return fmt.Errorf("mount at %s: %w (the root has a symbolic link where the sandbox mounts its own; replace it by a directory)", p, err)
	}
	if err == nil {
		err = unix.MoveMount(int(tree.Fd()), "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		unix.Close(at)
	}
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", tree.Name(), p, err)
	}
	return nil
}

// bind mounts a tree of ours or the host's at p.
func (r root) bind(source, p string, flags uint, attrs uint64, noLinks bool) error {
	tree, err := openTree(source, flags, attrs)
	if err != nil {
		return err
	}
	defer tree.Close()
	return r.attach(tree, p, noLinks)
}

// make calls f with the directory of p and the last part of its name.
func (r root) make(p string, f func(dir int, base string) error) error {
	dir, err := r.open(path.Dir(p), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == nil {
		err = f(dir, path.Base(p))
		unix.Close(dir)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", p, err)
	}
	return nil
}

// exists tells whether p is a directory, or anything else, as asked for; a link of the root's own may lead to it.
func (r root) exists(p string, dir bool) error {
	flags := unix.O_PATH
	fd, err := r.open(p, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR; {
	case dir && !isDir:
		return fmt.Errorf("a file where a directory belongs: %w", unix.ENOTDIR)
	case !dir && isDir:
		return fmt.Errorf("a directory where a file belongs: %w", unix.EISDIR)
	}
	return nil
}

func (r root) mkdir(p string, mode uint32) error {
	return r.make(p, func(dir int, base string) error {
		err := unix.Mkdirat(dir, base, mode&0o7777)
		if err == unix.EEXIST {
			return r.exists(p, true)
		}
		return err
	})
}

func (r root) file(p string, mode uint32, text string) error {
	return r.make(p, func(dir int, base string) error {
		fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o777)
		if err == unix.EEXIST {
			return r.exists(p, false)
		}
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), p)
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	})
}
