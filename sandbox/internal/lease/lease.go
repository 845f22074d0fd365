// Package lease gives each supervisor process a small number of its own, for as
// long as it lives, without a daemon: the number names its block of host ids
// and its cgroup folders, so no two live supervisors may share one.
//
//	l, err := lease.Acquire(lease.Dir(), func(n int, note string) error {
//		return cgroup.Sweep(strconv.Itoa(n), strings.Split(note, "\n")...)
//	})
//	err = l.Note(strings.Join(tree.Dirs(), "\n")) // for whoever sweeps after us
//	defer l.Release()
//
// A lease is a file named by its number, with an exclusive flock(2). The kernel
// drops the lock when its process dies, however it dies, so a file that can be
// locked belonged to the dead: the next Acquire sweeps up after it.
//
// Non-goals: leases across hosts or across users, and file systems on which
// flock is not local. Supervisors that share a cgroup must share a directory.
package lease

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Max is how many leases there are: numbers from 0 to Max-1.
const Max = 4096

const maxNote = 64 << 10

// ErrFull means that every number is taken.
var ErrFull = errors.New("every lease is taken")

// Lease is one number, held until Release or the end of the process. Safe for
// concurrent use.
type Lease struct {
	N int // from 0 to Max-1

	// Warnings joins what went wrong with sweeping up after the dead: their
	// numbers stay out of use until a later Acquire succeeds. Nil: nothing.
	Warnings error

	mu   sync.Mutex // guards the rest
	dir  *os.File
	file *os.File // nil once released
}

// Dir is where the leases of this user live: /run/sandboxd for root, otherwise
// $XDG_RUNTIME_DIR/sandboxd if that is the user's own, or /tmp/sandboxd-<uid>.
func Dir() string {
	uid := unix.Geteuid()
	if uid == 0 {
		return "/run/sandboxd"
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		var st unix.Stat_t
		if unix.Stat(run, &st) == nil && int(st.Uid) == uid {
			return run + "/sandboxd"
		}
	}
	return "/tmp/sandboxd-" + strconv.Itoa(uid)
}

// Acquire sweeps up after dead leases in dir and takes the lowest free number.
// dir is made if it is missing, and must be this user's alone.
//
// sweep is called once for each dead lease, with its last Note, and must leave
// nothing of it; nobody can hold that number meanwhile. A sweep that fails
// becomes a warning of the new lease, and is tried again by the next Acquire.
func Acquire(dir string, sweep func(n int, note string) error) (*Lease, error) {
	d, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	warnings, err := sweepDead(d, sweep)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("lease: look for dead leases in %s: %w", dir, err)
	}
	for n := range Max {
		f, err := claim(d, n)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("lease: take %s/%d: %w", dir, n, err)
		}
		if f != nil {
			return &Lease{N: n, Warnings: warnings, dir: d, file: f}, nil
		}
	}
	d.Close()
	err = fmt.Errorf("lease: %w: %d of them in %s; end a supervisor, or give this one a directory and a cgroup of its own", ErrFull, Max, dir)
	return nil, errors.Join(err, warnings)
}

// openDir opens the directory, and refuses one in which others could interfere.
func openDir(dir string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(dir, flags, 0)
	if err == unix.ENOENT {
		if err = unix.Mkdir(dir, 0o700); err == nil {
			err = unix.Chmod(dir, 0o700) // whatever the caller's umask
		}
		if err == nil || err == unix.EEXIST {
			fd, err = unix.Open(dir, flags, 0)
		}
	}
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil, fmt.Errorf("lease: directory %s is a link or a file: remove it: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lease: open directory %s: %w; its parent must exist and be writable for uid %d", dir, err, unix.Geteuid())
	}
	d := os.NewFile(uintptr(fd), dir)
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		err = fmt.Errorf("lease: stat directory %s: %w", dir, err)
		d.Close()
		return nil, err
	case int(st.Uid) != unix.Geteuid():
		d.Close()
		return nil, fmt.Errorf("lease: directory %s belongs to uid %d and not to uid %d: %w; remove it, or set XDG_RUNTIME_DIR", dir, st.Uid, unix.Geteuid(), fs.ErrPermission)
	case st.Mode&0o077 != 0:
		d.Close()
		return nil, fmt.Errorf("lease: directory %s has mode %03o and others may use it: %w; make it 700 after a look inside", dir, st.Mode&0o777, fs.ErrPermission)
	}
	return d, nil
}

// sweepDead sweeps each lease whose owner is gone, and frees its number.
func sweepDead(d *os.File, sweep func(int, string) error) (warnings, err error) {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n >= Max || strconv.Itoa(n) != name {
			continue // not a lease
		}
		f, err := lock(d, name, 0)
		if err != nil {
			warnings = errors.Join(warnings, fmt.Errorf("lease: look at %s/%s: %w", d.Name(), name, err))
		}
		if f == nil {
			continue // alive, or just gone
		}
		// Unlink before unlock: whoever waits for this file finds it void.
		note, err := io.ReadAll(io.LimitReader(f, maxNote))
		if err == nil {
			err = sweep(n, string(note))
		}
		if err == nil {
			err = unix.Unlinkat(int(d.Fd()), name, 0)
		}
		f.Close()
		if err != nil {
			warnings = errors.Join(warnings, fmt.Errorf("lease: sweep up after dead lease %d: %w", n, err))
		}
	}
	return warnings, nil
}

// claim makes the file of a free number; nil if it is taken.
func claim(d *os.File, n int) (*os.File, error) {
	f, err := lock(d, strconv.Itoa(n), unix.O_CREAT|unix.O_EXCL)
	if errors.Is(err, unix.EEXIST) {
		return nil, nil
	}
	return f, err
}

// lock opens and locks a file. Nil without an error if another has it, or it is
// gone.
func lock(d *os.File, name string, create int) (*os.File, error) {
	fd, err := unix.Openat(int(d.Fd()), name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC|create, 0o600)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.Name()+"/"+name)
	switch err := lockOpened(d, name, fd); err {
	case nil:
		return f, nil
	case unix.EWOULDBLOCK, unix.ENOENT:
		f.Close()
		return nil, nil
	default:
		f.Close()
		return nil, err
	}
}

// lockOpened locks an open file and makes sure that it still is the one of that
// name: it may have been swept, and even made anew, between the two.
func lockOpened(d *os.File, name string, fd int) error {
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	var held, named unix.Stat_t
	if err := unix.Fstat(fd, &held); err != nil {
		return err
	}
	if err := unix.Fstatat(int(d.Fd()), name, &named, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if held.Ino != named.Ino || held.Dev != named.Dev {
		return unix.ENOENT
	}
	return nil
}

// Note replaces what is passed to the sweep after this process, should it die
// without Release: at most 64 KiB. Write it before making what it tells of.
func (l *Lease) Note(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("lease: note on lease %d: %w", l.N, fs.ErrClosed)
	}
	if len(text) > maxNote {
		return fmt.Errorf("lease: note on lease %d: %d bytes are more than %d", l.N, len(text), maxNote)
	}
	_, err := l.file.WriteAt([]byte(text), 0)
	if err == nil {
		err = l.file.Truncate(int64(len(text)))
	}
	if err != nil {
		return fmt.Errorf("lease: note on lease %d: %w", l.N, err)
	}
	return nil
}

// Release gives the number back; everything that it named must be gone. Further
// calls do nothing.
func (l *Lease) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := unix.Unlinkat(int(l.dir.Fd()), strconv.Itoa(l.N), 0)
	if err := errors.Join(err, l.file.Close(), l.dir.Close()); err != nil {
		l.file = nil
		return fmt.Errorf("lease: release lease %d: %w", l.N, err)
	}
	l.file = nil
	return nil
}
