package unpack

import (
	"archive/tar"
	"fmt"
	"io"
	"path"

	"golang.org/x/sys/unix"
)

func (u *unpacker) file(dir, base string, h *tar.Header, body io.Reader) error {
	if err := u.charge(h.Size); err != nil {
		return err
	}
	if err := u.enter(dir); err != nil {
		return err
	}
	fd := -1
	err := u.tree.place(base, func() (err error) {
		fd, err = unix.Openat(u.tree.cur, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return fmt.Errorf("create the file: %w", err)
	}
	defer unix.Close(fd)
	if _, err := io.CopyBuffer(fdWriter(fd), bodyReader{body, u.in}, u.buf); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, u.mode(h)); err != nil {
		return fmt.Errorf("set the mode: %w", err)
	}
	return setTime(u.tree.cur, base, mtime(h))
}

func (u *unpacker) dir(dir, base string, h *tar.Header) error {
	if err := u.enter(dir); err != nil {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW
	fd, err := openIn(u.tree.cur, base, flags)
	if err != nil {
		// Not a directory, or nothing at all.
		err = u.tree.place(base, func() error { return unix.Mkdirat(u.tree.cur, base, 0o700) })
		if err != nil {
			return fmt.Errorf("make the directory: %w", err)
		}
		if fd, err = openIn(u.tree.cur, base, flags); err != nil {
			return fmt.Errorf("open the directory: %w", err)
		}
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, u.mode(h)); err != nil {
		return fmt.Errorf("set the mode: %w", err)
	}
	return setTime(fd, ".", mtime(h))
}

// rootDir gives the destination itself the mode and mtime of the entry "./".
func (u *unpacker) rootDir(h *tar.Header) error {
	if err := u.tree.leave(); err != nil {
		return err
	}
	if err := unix.Fchmod(u.tree.root, u.mode(h)); err != nil {
		return fmt.Errorf("set the mode: %w", err)
	}
	return setTime(u.tree.root, ".", mtime(h))
}

// symlink takes any text as the target: it gets its meaning in the sandbox.
func (u *unpacker) symlink(dir, base string, h *tar.Header) error {
	if err := checkText(h.Linkname); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := u.charge(int64(len(h.Linkname))); err != nil {
		return err
	}
	if err := u.enter(dir); err != nil {
		return err
	}
	err := u.tree.place(base, func() error { return unix.Symlinkat(h.Linkname, u.tree.cur, base) })
	if err != nil {
		return fmt.Errorf("make the symbolic link: %w", err)
	}
	return setTime(u.tree.cur, base, mtime(h))
}

func (u *unpacker) hardlink(dir, base string, h *tar.Header) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return fmt.Errorf("target %s: %w", quote(h.Linkname), err)
	}
	tdir, tbase := path.Split(target)
	tfd, err := openIn(u.tree.root, "./"+tdir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLink, quote(target), err)
	}
	defer unix.Close(tfd)
	var st, old unix.Stat_t
	if err := unix.Fstatat(tfd, tbase, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLink, quote(target), err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFLNK {
		return fmt.Errorf("%w: %s is neither a regular file nor a symbolic link", ErrLink, quote(target))
	}
	if err := u.enter(dir); err != nil {
		return err
	}
	// A link to itself: clearing its place would remove what it leads to.
	err = unix.Fstatat(u.tree.cur, base, &old, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && old.Dev == st.Dev && old.Ino == st.Ino {
		return nil
	}
	err = u.tree.place(base, func() error { return unix.Linkat(tfd, tbase, u.tree.cur, base, 0) })
	if err != nil {
		return fmt.Errorf("make the hard link: %w", err)
	}
	return nil
}

// mode is what remains of the recorded mode; see the package comment.
func (u *unpacker) mode(h *tar.Header) uint32 {
	bits := uint32(h.Mode & 0o777)
	if u.opts.Readable {
		bits |= bits&0o500>>3 | bits&0o500>>6
	}
	if h.Typeflag == tar.TypeDir {
		bits |= 0o700 | uint32(h.Mode&unix.S_ISVTX)
	}
	return bits
}

func mtime(h *tar.Header) unix.Timespec {
	return unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}
}

// fdWriter writes to a descriptor, without the cost of an os.File per entry.
type fdWriter int

func (fd fdWriter) Write(p []byte) (done int, err error) {
	for done < len(p) {
		n, err := unix.Write(int(fd), p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("write the file: %w", err)
		}
		done += n
	}
	return done, nil
}

// bodyReader explains errors where they come from reading, not from writing.
type bodyReader struct {
	body io.Reader
	in   *input
}

func (r bodyReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		err = r.in.explain(err)
	}
	return n, err
}
