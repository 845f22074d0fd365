package cgroup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// node is one cgroup directory: path, as seen from the descriptor dir, of which
// abs is the absolute name for messages.
type node struct {
	dir     int
	path    string
	abs     string
	unified bool
}

// nodeAt is the node with an absolute path.
func nodeAt(path string, unified bool) node {
	return node{dir: unix.AT_FDCWD, path: path, abs: path, unified: unified}
}

func (n node) fail(op, file string, err error) error {
	name := n.abs
	if file != "" {
		name += "/" + file
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (n node) open(file string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(n.dir, n.path+"/"+file, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, n.fail("open", file, err)
		}
	}
}

// write replaces the value of a control file in one write(2), as they want it.
func (n node) write(file, value string) error {
	fd, err := n.open(file, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Write(fd, []byte(value))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return n.fail("write "+strconv.Quote(value)+" to", file, err)
		}
	}
}

// Bounds of what is read: a control file is short, a list of pids is not.
const (
	maxFile = 64 << 10
	maxList = 8 << 20
)

var errTooLong = errors.New("longer than anything the kernel writes there")

// read returns a whole file of at most max bytes.
func (n node) read(file string, max int) (string, error) {
	fd, err := n.open(file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	s, err := readAll(fd, max)
	if err != nil {
		return "", n.fail("read", file, err)
	}
	return s, nil
}

func readAll(fd, max int) (string, error) {
	buf := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return "", err
		case n == 0:
			return string(buf), nil
		}
		buf = buf[:len(buf)+n]
		if len(buf) > max {
			return "", errTooLong
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// number reads a file with one number; "max" and v1's huge defaults are -1.
func (n node) number(file string) (int64, error) {
	s, err := n.read(file, maxFile)
	if err != nil {
		return 0, err
	}
	s = strings.TrimSpace(s)
	if s == "max" {
		return -1, nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, n.fail("parse", file, err)
	}
	if v >= 1<<62 {
		return -1, nil
	}
	return v, nil
}

// fields reads a file of "key value" lines.
func (n node) fields(file string) (map[string]int64, error) {
	s, err := n.read(file, maxFile)
	if err != nil {
		return nil, err
	}
	m := make(map[string]int64)
	for line := range strings.Lines(s) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, n.fail("parse", file, err)
		}
		m[key] = v
	}
	return m, nil
}

// children lists the cgroups directly below n.
func (n node) children() ([]node, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(n.dir, n.path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, n.fail("stat", "", err)
	}
	if st.Nlink == 2 { // "." and the entry above: no directory below
		return nil, nil
	}
	fd, err := n.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), n.abs)
	defer d.Close()
	var below []node
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if e.IsDir() {
				below = append(below, node{n.dir, n.path + "/" + e.Name(), n.abs + "/" + e.Name(), n.unified})
			}
		}
		if err == io.EOF {
			return below, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }
