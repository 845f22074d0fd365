package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tetratelabs/wazero"
)

// stored is a module's compiled form, by the runtime's own name for it.
type stored struct {
	name string
	file *os.File // nil: none
}

// room is a directory for the moment of the compilation: the runtime takes and
// leaves compiled modules in one. It is in the actor's own writable layer,
// counts against that one's limits, and is gone before the module runs.
type room struct {
	dir, inner string
	have       string // what was put there
}

// noRoom as the name tells that there is to be no directory.
const noRoom = "-"

// newRoom makes one, with what we have in it. Where the actor has no writable place, there is none.
func newRoom(have stored) (*room, wazero.CompilationCache) {
	r := &room{}
	if have.name == noRoom {
		return r, nil
	}
	for _, parent := range []string{"/tmp", "/dev/shm"} {
		dir, err := os.MkdirTemp(parent, ".sandboxd-wasm-")
		if err != nil {
			continue
		}
		r.dir = dir
		break
	}
	if r.dir == "" {
		return r, nil
	}
	cache, err := wazero.NewCompilationCacheWithDir(r.dir)
	list, err2 := os.ReadDir(r.dir)
	if err != nil || err2 != nil || len(list) != 1 {
		r.close()
		return &room{}, nil
	}
	r.inner = filepath.Join(r.dir, list[0].Name())
	if have.file != nil && have.name == filepath.Base(have.name) {
		if os.Symlink(fmt.Sprint("/proc/self/fd/", have.file.Fd()), filepath.Join(r.inner, have.name)) == nil {
			r.have = have.name
		}
	}
	return r, cache
}

// full tells that a compilation failed for want of room for its result.
func (r *room) full(err error) bool { return strings.Contains(err.Error(), r.dir) }

// fresh is what the runtime has left, where it did not have it before.
func (r *room) fresh() stored {
	if r.dir == "" {
		return stored{}
	}
	list, err := os.ReadDir(r.inner)
	if err != nil || len(list) == 0 {
		return stored{}
	}
	for _, d := range list {
		if d.Name() == r.have || !d.Type().IsRegular() {
			continue
		}
		if f, err := os.Open(filepath.Join(r.inner, d.Name())); err == nil {
			return stored{d.Name(), f}
		}
	}
	return stored{}
}

// close removes it. The runtime's cache has nothing open.
func (r *room) close() {
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}
