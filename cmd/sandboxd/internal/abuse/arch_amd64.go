package abuse

import (
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// int80 makes a call by the door of 32-bit programs.
func int80(nr uintptr) uintptr

func archCases() []Case {
	return []Case{
		call("kernel/iopl", "talk to devices by ports", "EPERM", unix.SYS_IOPL, 3),
		call("kernel/ioperm", "talk to one device by its port", "EPERM", unix.SYS_IOPERM, 0x80, 1, 1),
		call("kernel/modify-ldt", "change the segment table", "EPERM", unix.SYS_MODIFY_LDT, 0, raw("12345678"), 8),
		call("kernel/x32", "a call by the x32 door", "ENOSYS", 0x40000000|unix.SYS_GETPID).
			noControl("most kernels have no such door, which answers the same"),
		{
			ID: "kernel/int80", Says: "a call by the 32-bit door", Want: "ENOSYS|no door", NoControl: "a kernel without 32-bit programs has no such door",
			Attack: func([]string) (err error) {
				debug.SetPanicOnFault(true)
				defer func() {
					if recover() != nil {
						err = word("no door")
					}
				}()
				if r := int32(int80(20)); r < 0 { // getpid
					return syscall.Errno(-r)
				}
				return nil
			},
		},
	}
}
