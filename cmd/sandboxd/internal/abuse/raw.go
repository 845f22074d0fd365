package abuse

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func addr(ts *unix.Timespec) uintptr { return uintptr(unsafe.Pointer(ts)) }

// nap ends this process, a forked child, after a while.
//
//go:norace
//go:nosplit
func nap(ts *unix.Timespec) {
	_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	for {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
