package abuse

import (
	"strings"

	"golang.org/x/sys/unix"
)

// none stands for a descriptor that is not open.
const none = ^uintptr(0)

func kernelCases() []Case {
	zeros := strings.Repeat("\x00", 256)
	perf := make([]uint32, 32)
	perf[0], perf[1] = unix.PERF_TYPE_SOFTWARE, 128
	const threadKeyring = ^uintptr(0) // goes with its process
	return []Case{
		call("kernel/bpf-map", "create a BPF map", "EPERM", unix.SYS_BPF, 0, words(2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 72),
		call("kernel/bpf-load", "load a BPF program", "EPERM", unix.SYS_BPF, 5, raw(zeros), 48),
		call("kernel/perf", "open a performance counter", "EPERM", unix.SYS_PERF_EVENT_OPEN, words(perf...), 0, none, none, 0),
		call("kernel/io-uring-setup", "make an io_uring", "ENOSYS", unix.SYS_IO_URING_SETUP, 4, raw(zeros)).from("isolate 2.5"),
		call("kernel/io-uring-enter", "use an io_uring", "EPERM", unix.SYS_IO_URING_ENTER, none),
		call("kernel/userfaultfd", "handle page faults of the kernel", "EPERM", unix.SYS_USERFAULTFD, 0),
		call("kernel/userfaultfd-user", "handle one's own page faults", "EPERM", unix.SYS_USERFAULTFD, 1),
		call("kernel/add-key", "add a key to a keyring", "EPERM", unix.SYS_ADD_KEY, raw("user"), raw("hostile"), raw("x"), 1, threadKeyring).from("isolate 2.4"),
		call("kernel/request-key", "ask for a key, which may start a helper", "EPERM", unix.SYS_REQUEST_KEY, raw("user"), raw("hostile"), 0, threadKeyring),
		call("kernel/keyctl-join", "join another session keyring", "EPERM", unix.SYS_KEYCTL, 1, 0),
		call("kernel/keyctl-read", "read the session keyring", "EPERM", unix.SYS_KEYCTL, 11, ^uintptr(2), raw(zeros), 64),
		call("kernel/init-module", "load a kernel module from memory", "EPERM", unix.SYS_INIT_MODULE, raw(zeros), 64, raw("")),
		call("kernel/finit-module", "load a kernel module from a file", "EPERM", unix.SYS_FINIT_MODULE, none, raw(""), 0),
		call("kernel/delete-module", "unload a kernel module", "EPERM", unix.SYS_DELETE_MODULE, raw("sandboxd_no_such_module"), unix.O_NONBLOCK),
		call("kernel/kexec", "load another kernel", "EPERM", unix.SYS_KEXEC_LOAD, 0, 0, 0, none),
		call("kernel/kexec-file", "load another kernel from a file", "EPERM", unix.SYS_KEXEC_FILE_LOAD, none, none, 0, 0, none),
		call("kernel/reboot", "reboot (with numbers that do not)", "EPERM", unix.SYS_REBOOT, 0, 0, 0, 0),
		call("kernel/syslog", "read the kernel's log", "EPERM", unix.SYS_SYSLOG, 3, raw(zeros), 64),
		call("kernel/memfd-secret", "memory that the kernel cannot read", "EPERM", unix.SYS_MEMFD_SECRET, 0).
			noControl("many kernels have it switched off, which answers ENOSYS"),
		call("kernel/move-pages", "move pages between nodes", "ENOSYS", unix.SYS_MOVE_PAGES, 0, 0, 0, 0, 0, 0),
		call("kernel/vmsplice", "lend memory to a pipe", "ENOSYS", unix.SYS_VMSPLICE, 1, 0, 0, 0).from("CVE-2026-31431"),
		call("kernel/personality", "switch the randomisation of addresses off", "EPERM", unix.SYS_PERSONALITY, 0x0040000),
		call("kernel/settimeofday", "set the clock (to a time that is none)", "EPERM", unix.SYS_SETTIMEOFDAY, words(0, 0, 2000000, 0), 0),
		call("kernel/clock-settime", "set the clock, by the other call", "EPERM", unix.SYS_CLOCK_SETTIME, 0, words(0, 0, 2000000000, 0)),
		call("kernel/adjtimex", "look into the clock's tuning", "EPERM", unix.SYS_ADJTIMEX, raw(zeros)),
		call("kernel/quotactl", "change disk quotas", "EPERM", unix.SYS_QUOTACTL, 0x80000700, raw("/nonexistent"), 0, raw(zeros)),
		call("kernel/swapon", "add swap", "EPERM", unix.SYS_SWAPON, raw("/nonexistent"), 0),
		call("kernel/acct", "write accounts of processes", "EPERM", unix.SYS_ACCT, raw("/nonexistent")),
		call("kernel/fanotify", "watch all files", "EPERM", unix.SYS_FANOTIFY_INIT, 0, 0),
		call("kernel/kcmp", "compare kernel objects of processes", "EPERM", unix.SYS_KCMP, 1, 1, 0, 0, 0),
		call("kernel/vhangup", "hang the terminal up", "EPERM", unix.SYS_VHANGUP),
	}
}

func namespaceCases() []Case {
	var all []Case
	for _, ns := range []struct {
		name string
		flag uintptr
	}{
		{"user", unix.CLONE_NEWUSER},
		{"mount", unix.CLONE_NEWNS},
		{"pid", unix.CLONE_NEWPID},
		{"net", unix.CLONE_NEWNET},
		{"ipc", unix.CLONE_NEWIPC},
		{"uts", unix.CLONE_NEWUTS},
		{"cgroup", unix.CLONE_NEWCGROUP},
		{"time", unix.CLONE_NEWTIME},
	} {
		all = append(all, call("namespace/unshare-"+ns.name, "a new "+ns.name+" namespace by unshare", "EPERM", unix.SYS_UNSHARE, ns.flag))
		if ns.flag != unix.CLONE_NEWTIME { // for clone that bit is part of the exit signal
			all = append(all, call("namespace/clone-"+ns.name, "a new user and "+ns.name+" namespace by clone", "EPERM", unix.SYS_CLONE, unix.CLONE_NEWUSER|ns.flag|uintptr(unix.SIGCHLD)))
		}
	}
	all[0].Ref = "CVE-2022-0185"
	args := make([]uint32, 16) // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, …
	args[8] = uint32(unix.SIGCHLD)
	plain := words(args...)
	args[0] = unix.CLONE_NEWUSER
	ns := Case{ID: "namespace/setns", Says: "join a mount namespace by descriptor", Want: "EPERM|EACCES", Attack: func([]string) error {
		fd, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return inChild(unix.SYS_SETNS, [6]uintptr{uintptr(fd), unix.CLONE_NEWNS})
	}}
	return append(all, ns,
		call("namespace/clone3", "clone by the call whose flags no filter sees", "ENOSYS", unix.SYS_CLONE3, plain, 64),
		call("namespace/clone3-user", "a new user namespace by clone3", "ENOSYS", unix.SYS_CLONE3, words(args...), 64))
}
