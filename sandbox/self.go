package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"sandboxd/spawn/launcher"
)

var self struct {
	sync.Mutex
	exe *os.File // nil until it could be made
}

// selfExe is this process's own program as a sealed memory file, made once and
// shared: for Spec.exe of actors that are functions of the same program. It is
// what runs now, also after the file on disk was replaced. The kernel calls it
// memfd:NAME by the file's name, and since Linux 6.14 so is an actor's process
// called in ps; before, by the number of a descriptor. os.Executable inside an
// actor names no file. The caller must not close it.
func selfExe() (*os.File, error) {
	self.Lock()
	defer self.Unlock()
	if self.exe != nil {
		return self.exe, nil
	}
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	defer from.Close()
	name, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	// 249 bytes are what memfd_create(2) takes.
	if name = filepath.Base(name); len(name) > 249 {
		name = name[:249]
	}
	f, err := launcher.Sealed(name, from)
	if err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	self.exe = f
	return f, nil
}
