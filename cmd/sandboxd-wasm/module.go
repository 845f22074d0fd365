package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/wasm/job"
)

// moduleError says why a file is no module that runs here, as execve(2) would.
type moduleError struct {
	errno syscall.Errno
	text  string
}

func (e *moduleError) Error() string { return e.text }

// module is a module's file, unread but for its sum.
type module struct {
	bytes []byte
	sum   job.Sum
}

// read finds and reads the module's file.
func read(j job.Job) (*module, error) {
	f, err := find(j.Argv[0], j.Env)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	limit := int64(job.MaxModule)
	if j.Memory > 0 {
		limit = min(limit, j.Memory/2)
	}
	if st.Size() > limit {
		return nil, &moduleError{unix.E2BIG, fmt.Sprintf("a module of %d bytes, where its memory limit allows %d; raise --memory", st.Size(), limit)}
	}
	m := &module{bytes: make([]byte, st.Size())}
	if _, err := io.ReadFull(f, m.bytes); err != nil {
		return nil, &moduleError{unix.EIO, err.Error()}
	}
	magic := []byte("\x00asm")
	switch begins := m.bytes[:min(len(m.bytes), len(magic))]; {
	case bytes.Equal(begins, magic):
	case st.Mode()&0o111 == 0: // a module need not be, as those that one downloads are not
		return nil, &moduleError{unix.EACCES, "neither a WebAssembly module nor executable"}
	default:
		return nil, &moduleError{unix.ENOEXEC, fmt.Sprintf("no WebAssembly module: it begins with %q, not with %q", begins, magic)}
	}
	m.sum = sha256.Sum256(m.bytes)
	return m, nil
}

// find opens the file as execvp(3) looks programs up, but takes it for enough that it can be read.
func find(name string, env []string) (*os.File, error) {
	if strings.Contains(name, "/") {
		return open(name)
	}
	path := ""
	for _, kv := range slices.Backward(env) {
		if p, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = p
			break
		}
	}
	why := error(&moduleError{unix.ENOENT, "no such module in the sandbox, in PATH=" + path})
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		f, err := open(dir + "/" + name)
		if err == nil {
			return f, nil
		}
		if e, ok := errors.AsType[*moduleError](err); ok && e.errno == unix.EACCES {
			why = err // another directory may have one, as with execvp
		}
	}
	return nil, why
}

// open opens a regular file, and waits for nobody.
func open(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	no := func(errno syscall.Errno, text string) (*os.File, error) {
		return nil, &moduleError{errno, text}
	}
	switch {
	case err == unix.ENOENT:
		return no(unix.ENOENT, "no such module in the sandbox")
	case err == unix.EACCES:
		return no(unix.EACCES, "the sandboxed user may not read the module, or not enter a directory above it")
	case err == unix.ENXIO: // a socket, or a pipe
		return no(unix.EACCES, "no regular file")
	case err != nil:
		errno, _ := errors.AsType[syscall.Errno](err)
		return no(errno, "the module cannot be opened in the sandbox")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return no(unix.EACCES, "no regular file")
	}
	return os.NewFile(uintptr(fd), path), nil
}
