package native

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dumpable is this process's attribute, which each change of id takes away.
var dumpable struct {
	sync.Mutex
	changed, before int // by how many threads; 0 means that before is out of date
}

// filesAs gives this thread alone the rights over files of an id, in place of
// root's, until back is called by the same goroutine.
func filesAs(uid, gid int) (back func()) {
	runtime.LockOSThread()
	dumpable.Lock()
	if dumpable.changed++; dumpable.changed == 1 {
		dumpable.before, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	}
	dumpable.Unlock()
	var death int32 // the signal of this thread's parent's death goes the same way
	_ = unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&death)), 0, 0, 0)
	group, _ := unix.SetfsgidRetGid(gid) // gives the id before, and no error
	user, _ := unix.SetfsuidRetUid(uid)
	return func() {
		_, _ = unix.SetfsuidRetUid(user)
		_, _ = unix.SetfsgidRetGid(group)
		_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(death), 0, 0, 0)
		dumpable.Lock()
		if dumpable.changed--; dumpable.changed == 0 {
			_ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable.before), 0, 0, 0)
		}
		dumpable.Unlock()
		runtime.UnlockOSThread()
	}
}
