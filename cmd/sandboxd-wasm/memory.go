package main

import (
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// reserve makes a module's memory of addresses that cost nothing until they are
// touched: to grow is to give out more of them, without a copy, and without the
// old and the new one side by side. It is taken as a Go slice that the collector does not know.
func reserve(_, most uint64) experimental.LinearMemory {
	if most == 0 {
		return &reserved{}
	}
	all, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return &reserved{} // which cannot grow, so the module's start fails
	}
	return &reserved{all}
}

type reserved struct{ all []byte }

// Reallocate implements experimental.LinearMemory. The address stays.
func (r *reserved) Reallocate(size uint64) []byte {
	if size > uint64(len(r.all)) {
		return nil
	}
	return r.all[:size:len(r.all)]
}

// Free implements experimental.LinearMemory.
func (r *reserved) Free() {
	if r.all != nil {
		_ = unix.Munmap(r.all)
		r.all = nil
	}
}
