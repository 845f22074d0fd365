package unpack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the directory being filled. It keeps one directory of it open, the
// one used last, as entries of one directory mostly come in a row. When it
// leaves that directory it puts back the mtime, which new entries change: so
// nothing has to be remembered until the end, however many directories come.
type tree struct {
	root  int
	cur   int    // -1: none
	path  string // of cur, as entered
	mtime unix.Timespec
	stale bool // something was removed: path may lead elsewhere now
}

func openTree(dst *os.File) (*tree, error) {
	root, err := openIn(int(dst.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY)
	runtime.KeepAlive(dst)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("open the destination: openat2: %w; it takes Linux 5.6, and a seccomp filter that knows the call", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the destination: %w", err)
	}
	return &tree{root: root, cur: -1}, nil
}

// openIn opens path as if dirfd were the root directory. What is mounted below
// is not entered: it is not ours to fill.
func openIn(dirfd int, path string, flags uint64) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	// EAGAIN: something on the host was renamed while a link went through "..".
	for range 128 {
		fd, err = unix.Openat2(dirfd, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
	return -1, err
}

// enter makes path the current directory, and leaves it alone on an error.
func (t *tree) enter(path string) error {
	if t.cur >= 0 && t.path == path && !t.stale {
		return nil
	}
	fd, err := openIn(t.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	// Leave first: it may be the same directory by another name.
	err = t.leave()
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	t.cur, t.path, t.mtime = fd, path, st.Mtim
	return nil
}

func (t *tree) leave() error {
	if t.cur < 0 {
		return nil
	}
	err := setTime(t.cur, ".", t.mtime)
	unix.Close(t.cur)
	t.cur, t.stale = -1, false
	return err
}

func (t *tree) close() error {
	err := t.leave()
	unix.Close(t.root)
	return err
}

// enter makes dir, as split off by path.Split, the current directory of the
// tree, and makes it and its parents where they are missing.
func (u *unpacker) enter(dir string) error {
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		dir = "."
	}
	err := u.tree.enter(dir)
	if err == unix.ENOENT {
		err = u.enterNew(dir)
	}
	switch err {
	case nil:
		return nil
	case unix.ENOTDIR, unix.ELOOP, unix.EEXIST:
		return fmt.Errorf("%w: %w", ErrParent, err)
	}
	return fmt.Errorf("open the parent: %w", err)
}

func (u *unpacker) enterNew(dir string) error {
	if err := u.tree.enter("."); err != nil {
		return err
	}
	for start := 0; start < len(dir); {
		end := len(dir)
		if i := strings.IndexByte(dir[start:], '/'); i >= 0 {
			end = start + i
		}
		err := u.tree.enter(dir[:end])
		if err == unix.ENOENT {
			// EEXIST here: a link that leads nowhere.
			if err := unix.Mkdirat(u.tree.cur, dir[start:end], 0o700); err != nil {
				return err
			}
			u.stats.Implied++
			if err := u.checkCount(); err != nil {
				return err
			}
			if err = u.tree.enter(dir[:end]); err == nil {
				err = unix.Fchmod(u.tree.cur, 0o755)
			}
		}
		if err != nil {
			return err
		}
		start = end + 1
	}
	return nil
}

// place calls create, which must insist on making something new, and clears
// its place if it is taken.
func (t *tree) place(base string, create func() error) error {
	err := create()
	if err != unix.EEXIST {
		return err
	}
	t.stale = true
	err = unix.Unlinkat(t.cur, base, 0)
	if err == unix.EISDIR {
		err = unix.Unlinkat(t.cur, base, unix.AT_REMOVEDIR)
	}
	if err == unix.ENOTEMPTY {
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("remove what is in the way: %w", err)
	}
	return create()
}

// setTime sets the mtime of base, not following it, and leaves the atime.
func setTime(dirfd int, base string, mtime unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	if err := unix.UtimesNanoAt(dirfd, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set mtime: %w", err)
	}
	return nil
}
