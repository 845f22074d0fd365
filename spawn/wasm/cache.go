package wasm

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/launcher"
	"sandboxd/spawn/wasm/job"
)

// A compiled module is kept in memory while its backend lives, and in a
// directory where there is one, named by what it is compiled of and by whom.
//
// Whoever runs a module could choose its compiled form, if the module broke the
// compiler; but a worker says which module it has before it looks into it, and
// is heard once. So a module can spoil its own entry, and no other one's: who
// runs that module has it running in a sandbox either way.
//
// Workers get sealed memory files: an ordinary user's have the id of who owns
// the directory, and could write to what is in it.

const (
	maxBlob = 256 << 20 // bytes of a compiled module
	maxKept = 256 << 20 // bytes of all that are kept in memory
	maxDir  = 1 << 30   // bytes of all in the directory
)

// cache keeps compiled modules. Its methods may be called concurrently.
type cache struct {
	dir string // "": none

	mu    sync.Mutex
	kept  []kept // the one used last is the last
	bytes int64
}

// kept is a compiled module in memory.
type kept struct {
	key, name string
	file      *os.File // sealed
	size      int64
}

// key is a module's name in the cache.
func key(module, worker job.Sum) string {
	sum := sha256.Sum256(append(module[:], worker[:]...))
	return hex.EncodeToString(sum[:])
}

// load is what the cache has of key, as a file of the caller's, and its name; nil where it has nothing.
func (c *cache) load(key string) (*os.File, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.kept, func(k kept) bool { return k.key == key })
	if i < 0 {
		f, name, err := fromDir(c.dir, key)
		if err != nil {
			return nil, ""
		}
		defer f.Close()
		if !c.keep(key, name, f) {
			return nil, ""
		}
		i = len(c.kept) - 1
	}
	k := c.kept[i]
	c.kept = append(slices.Delete(c.kept, i, i+1), k)
	fd, err := unix.FcntlInt(k.file.Fd(), unix.F_DUPFD_CLOEXEC, 3) // it may go while it is sent
	if err != nil {
		return nil, ""
	}
	return os.NewFile(uintptr(fd), "module"), k.name
}

// store keeps what a worker has compiled, which may be anything. What cannot be kept is not.
func (c *cache) store(key, name string, from *os.File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var fs unix.Statfs_t
	if unix.Fstatfs(int(from.Fd()), &fs) != nil || fs.Type != unix.TMPFS_MAGIC { // reading another one's file may take for ever
		return
	}
	if plain(name) && c.keep(key, name, from) {
		k := c.kept[len(c.kept)-1]
		toDir(c.dir, key, name, io.NewSectionReader(k.file, 0, k.size))
	}
}

// keep copies a file of a worker's into memory that nobody can change, as the last of the list.
func (c *cache) keep(key, name string, from *os.File) bool {
	st, err := from.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxBlob {
		return false
	}
	f, err := launcher.Sealed("module", io.NewSectionReader(from, 0, st.Size()))
	if err != nil {
		return false
	}
	for i := range c.kept { // two compiled it at once, or this one's runtime is another
		if c.kept[i].key == key {
			c.drop(i)
			break
		}
	}
	c.kept = append(c.kept, kept{key, name, f, st.Size()})
	for c.bytes += st.Size(); c.bytes > maxKept; {
		c.drop(0)
	}
	return true
}

func (c *cache) drop(i int) {
	c.kept[i].file.Close()
	c.bytes -= c.kept[i].size
	c.kept = slices.Delete(c.kept, i, i+1)
}

// close forgets what is in memory.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.kept) > 0 {
		c.drop(0)
	}
}
