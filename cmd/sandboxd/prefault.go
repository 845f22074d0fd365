package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// next is where the runtime's heap has grown to: a page that is not used.
var next *[8 << 10]byte

// prefault maps the memory that a run will take from the heap by one system
// call instead of a page fault for each page. A kernel that cannot (before
// Linux 5.14) says so, and nothing is lost.
func prefault() {
	const populateWrite = 23 // MADV_POPULATE_WRITE
	next = new([8 << 10]byte)
	_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, uintptr(unsafe.Pointer(next))&^4095, 640<<10, populateWrite)
}
