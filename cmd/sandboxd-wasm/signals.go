package main

import (
	"path"
	"unsafe"

	"golang.org/x/sys/unix"
)

// name lets process lists show the module, as they would any program.
func name(argv0 string) {
	if b, err := unix.BytePtrFromString(path.Base(argv0)); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}

// signals gives every signal its default, as to a program without handlers: the
// Go runtime would ignore some, and write about others. It keeps those that it lives by.
func signals() {
	var action struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	for s := 1; s <= 64; s++ {
		switch unix.Signal(s) {
		case unix.SIGKILL, unix.SIGSTOP, // which are nobody's
			unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, // faults of its own
			unix.SIGURG,  // preemption
			unix.SIGCHLD, // nothing by default either
			unix.SIGPIPE: // the runtime dies of it where the default would have it
			continue
		}
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}
