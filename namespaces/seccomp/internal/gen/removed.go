package main

// removed lists what moby allows without a capability and this project does
// not, with the reason. Calls that moby already refuses (mount, unshare, setns,
// keyctl, bpf, perf_event_open, userfaultfd, io_uring_*, kexec, ...) are absent.
var removed = map[string]string{
	"adjtimex":          "reads and sets the clock behind one pointer, so that writes cannot be told from reads",
	"clock_adjtime":     "like adjtimex",
	"fanotify_mark":     "useless without fanotify_init",
	"memfd_secret":      "memory that the supervisor cannot inspect; no common program uses it",
	"modify_ldt":        "16-bit segments: a long record of kernel bugs, used by emulators only",
	"name_to_handle_at": "makes handles that outlive mount namespaces",
	"openat2":           "flags and mode sit behind a pointer: a set-id bit could not be seen",
	"process_vm_readv":  "memory of other processes",
	"process_vm_writev": "memory of other processes",
	"ptrace":            "control of other processes, and a large part of the kernel",
	"vmsplice":          "maps user pages into pipes: a long record of kernel bugs, used by benchmarks",
}
