package integration

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sandboxd/sandbox"
)

// compare holds what a probe printed ("name: OUTCOME" lines) against a table
// of "name: ALLOWED|ALLOWED" lines. Both ways: an attempt that the table does
// not have and a row that was not tried fail too.
func compare(t *testing.T, printed, table string) {
	t.Helper()
	want := map[string]string{}
	for line := range strings.Lines(table) {
		if name, outcomes, ok := cutLast(line); ok {
			want[name] = outcomes
		}
	}
	for line := range strings.Lines(printed) {
		name, got, ok := cutLast(line)
		if !ok {
			continue
		}
		allowed, known := want[name]
		delete(want, name)
		if !known {
			t.Errorf("%s: %s, which no row of the table expects", name, got)
		} else if !slices.Contains(strings.Split(allowed, "|"), got) {
			t.Errorf("%s: %s, want %s", name, got, allowed)
		}
	}
	for name := range want {
		t.Errorf("%s: was not tried", name)
	}
}

// cutLast splits at the last ": "; names may have colons.
func cutLast(line string) (name, outcome string, ok bool) {
	line = strings.TrimSpace(line)
	i := strings.LastIndex(line, ": ")
	if i < 0 || strings.HasPrefix(line, "#") {
		return "", "", false
	}
	return strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+2:]), true
}

const calls = `
bpf map: EPERM
bpf prog: EPERM
perf_event_open: EPERM
io_uring_setup: ENOSYS
io_uring_enter: EPERM
userfaultfd: EPERM
userfaultfd user mode: EPERM
add_key: EPERM
request_key: EPERM
keyctl session: EPERM
keyctl read: EPERM
init_module: EPERM
finit_module: EPERM
delete_module: EPERM
kexec_load: EPERM
kexec_file_load: EPERM
reboot: EPERM
syslog: EPERM
ptrace traceme: EPERM
memfd_secret: EPERM
move_pages: ENOSYS
mbind: ENOSYS
vmsplice: ENOSYS
statmount: EPERM|ENOSYS|EFAULT
listns: ENOSYS
no such call: ENOSYS

setuid 0: EPERM|EINVAL
setresuid 65534: EPERM|EINVAL
setgid 0: EPERM|EINVAL
setgroups: EPERM
capset: EPERM
ambient capability: EPERM
securebits: EPERM
undo no_new_privs: EINVAL
sethostname: EPERM
setdomainname: EPERM
settimeofday: EPERM
clock_settime: EPERM
adjtimex: EPERM
personality no ASLR: EPERM
raise RLIMIT_NOFILE: EPERM
SCHED_FIFO: EPERM
nice -5: EPERM|EACCES
ioprio realtime: EPERM
vhangup: EPERM
TIOCSTI: EPERM
TIOCSTI, dirty upper half: EPERM
TIOCLINUX: EPERM
mknod null: EPERM|EACCES

socket raw ICMP: EPERM
socket raw: EPERM|EPROTONOSUPPORT
socket raw IPv6: EPERM|EPROTONOSUPPORT
socket packet: EPERM
socket packet dgram: EPERM
socket alg: EPERM
socket vsock: EPERM
socket rxrpc: EPERM
socket key: EPERM
socket xdp: EPERM
socket tipc: EPERM
socket smc: EPERM
socket bluetooth: EPERM
socket can: EPERM
socket nfc: EPERM
socket rds: EPERM
socket pppox: EPERM
socket sctp: EPROTONOSUPPORT|EPERM
socket mptcp: EPROTONOSUPPORT|EPERM
socket netfilter: EPROTONOSUPPORT
socket xfrm: EPROTONOSUPPORT
socket uevent: EPROTONOSUPPORT
socket audit: EPROTONOSUPPORT

clone3: ENOSYS
clone3 user: ENOSYS
clone3 time: ENOSYS
setns mnt: EPERM
setns any: EPERM

mount tmpfs: EPERM
mount proc: EPERM
mount bind: EPERM
mount remount rw: EPERM
mount shared: EPERM
umount /proc: EPERM
umount /: EPERM
pivot_root: EPERM
open_tree clone: EPERM
fsopen: EPERM
fspick: EPERM
move_mount: EPERM
mount_setattr: EPERM
chroot: EPERM
chroot escape: EPERM
fchdir stays in: EPERM
name_to_handle_at: EPERM
open_by_handle_at: EPERM
quotactl: EPERM
swapon: EPERM
acct: EPERM
fanotify_init: EPERM
`

const callsAMD64 = `
iopl: EPERM
ioperm: EPERM
modify_ldt: EPERM
x32 getpid: ENOSYS
int 0x80 getpid: ENOSYS
`

func TestForbiddenCalls(t *testing.T) {
	table := calls
	if runtime.GOARCH == "amd64" {
		table += callsAMD64
	}
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		table += fmt.Sprintf("unshare %[1]s: EPERM\nclone %[1]s: EPERM\nclone user+%[1]s: EPERM\n", ns)
	}
	table += "unshare time: EPERM\n"
	everyone(t, func(t *testing.T, c *caller) {
		res := c.attack(t, "", "probe_calls")
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, table)
		t.Run("host network", func(t *testing.T) {
			res := c.attack(t, "--network host", "probe_calls")
			res.want(t, 0, sandbox.Exited)
			compare(t, res.stdout, table)
		})
	})
}

// The sandbox's init and the program see each other. As root they have two
// host ids; an ordinary user has but one to give, and what then works harms
// only the sandbox's own: init survives it and tells the program's exit.
const initCommon = `
ptrace attach: EPERM
ptrace seize: EPERM
process_vm_readv: EPERM
process_vm_writev: EPERM
pidfd_getfd: EPERM
setns by pidfd: EPERM
kcmp: EPERM
process_madvise: EPERM|EACCES
read environ: EACCES|EPERM
read mem: EACCES|EPERM
read maps: EACCES|EPERM
read auxv: EACCES|EPERM
read stack: EACCES|EPERM|ENOENT
read syscall: EACCES|EPERM
read pagemap: EACCES|EPERM
read smaps: EACCES|EPERM
read io: EACCES|EPERM
write mem: EACCES|EPERM|EROFS
write oom_score_adj: EACCES|EPERM|EROFS
write uid_map: EACCES|EPERM|EROFS
write coredump_filter: EACCES|EPERM|EROFS
open exe: EACCES|EPERM
write exe: EACCES|EPERM
write any exe: EACCES|EPERM|ETXTBSY|EROFS
link fd/0: EACCES|EPERM
list root: EACCES|EPERM
list cwd: EACCES|EPERM
open ns/mnt: EACCES|EPERM
open ns/net: EACCES|EPERM
kill parent's group: EPERM|ESRCH
`

const initTwoIDs = `
list fd: EACCES|EPERM
prlimit: EPERM
setpriority: EPERM
sched_setaffinity: EPERM
kill STOP: EPERM
kill TERM: EPERM
kill INT: EPERM
kill KILL: EPERM
pidfd_send_signal: EPERM
kill parent: EPERM
sigqueue: EPERM
`

const initOneID = `
list fd: EACCES|EPERM|OK
prlimit: EPERM|OK
setpriority: EPERM|EACCES|OK
sched_setaffinity: EPERM|OK
kill STOP: EPERM|OK
kill TERM: EPERM|OK
kill INT: EPERM|OK
kill KILL: EPERM|OK
pidfd_send_signal: EPERM|OK
kill parent: EPERM|OK
sigqueue: EPERM|OK
`

func TestInitIsOutOfReach(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.attack(t, "--timeout 60s", "probe_init")
		res.want(t, 7, sandbox.Exited)
		out, survived := strings.CutSuffix(res.stdout, "survived\n")
		if !survived {
			t.Fatalf("the attacker did not live to tell: %s", res.tail())
		}
		table := initCommon + initTwoIDs
		if !c.root() {
			table = initCommon + initOneID
		}
		compare(t, out, table)
	})
}

// With --seccomp kill the first forbidden call is the end, and it is named.
func TestSeccompKill(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		// Harmless calls, should nothing stop them.
		for call, program := range map[string][]string{
			"bpf": {"/hostile/probe_calls"}, "chroot": {"/usr/bin/python3", "-c", "import os; os.chroot('/'); input()"},
			"unshare": {"/bin/sh", "-c", "unshare --user true; sleep 100"},
		} {
			res := c.run(t, "--seccomp kill --timeout 60s --mount "+hostile+":/hostile", program...)
			if res.report == nil || res.report.Exit.Reason != sandbox.Syscall || !strings.Contains(res.report.Exit.Detail, call) || res.code == 0 {
				t.Errorf("%s under --seccomp kill: exit %d%s", call, res.code, res.tail())
			}
		}
		c.run(t, "--seccomp kill", "/usr/bin/python3", "-c", "import os, threading, socket, subprocess; subprocess.run(['true'], check=True)").want(t, 0, sandbox.Exited)
	})
}
