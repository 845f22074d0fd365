package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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

// Files of the host and of the kernel. "-" means not there at all.
const files = `
r:/etc/shadow: -
r:/etc/gshadow: -
r:/etc/sudoers: -
l:/etc/ssh: -
l:/root: -
l:/var/log: -
l:/var/lib: -
l:/home/sandbox: ENODATA
l:/srv: -
l:/opt: -
l:/media: -
l:/boot: -
l:/run/user: -
l:/run/systemd: -
r:/run/docker.sock: -
l:/run/sandboxd/..: OK
l:/tmp: ENODATA
l:/dev/shm: ENODATA
l:/dev/mqueue: -
l:/lost+found: -

l:/sys: -
r:/sys/kernel/uevent_helper: -
w:/sys/kernel/uevent_helper: -
l:/sys/fs/cgroup: -
l:/sys/kernel/security: -
l:/sys/kernel/debug: -

r:/proc/1/environ: EACCES|EPERM
r:/proc/kcore: -
r:/proc/kmsg: -
w:/proc/sysrq-trigger: -
w:/proc/sys/kernel/core_pattern: -
w:/proc/sys/kernel/modprobe: -
w:/proc/sys/kernel/hostname: -
w:/proc/sys/kernel/ns_last_pid: -
w:/proc/sys/vm/overcommit_memory: -
w:/proc/sys/net/ipv4/ip_forward: -
w:/proc/sys/fs/binfmt_misc/register: -
w:/proc/sys/user/max_user_namespaces: -
r:/proc/kpagecount: -
r:/proc/keys: -
r:/proc/timer_list: -
r:/proc/sched_debug: -
r:/proc/latency_stats: -
l:/proc/acpi: -
l:/proc/scsi: -
l:/proc/asound: -
w:/proc/irq/default_smp_affinity: -
w:/proc/mtrr: -
r:/proc/vmallocinfo: -
r:/proc/pagetypeinfo: -
r:/proc/slabinfo: -
w:/proc/self/uid_map: EACCES|EPERM|EROFS
w:/proc/self/exe: EACCES|EPERM|ETXTBSY|EROFS

r:/dev/mem: -
r:/dev/port: -
r:/dev/kmsg: -
r:/dev/vda: -
r:/dev/sda: -
r:/dev/loop0: -
r:/dev/loop-control: -
r:/dev/fuse: -
r:/dev/kvm: -
r:/dev/net/tun: -
r:/dev/console: -
r:/dev/tty0: -
r:/dev/input/event0: -
r:/dev/hwrng: -
r:/dev/userfaultfd: -

c:/owned: RO
c:/usr/owned: RO
c:/usr/bin/owned: RO
c:/etc/owned: RO
c:/lib/owned: RO
c:/var/owned: RO
c:/home/owned: RO
c:/run/owned: RO
c:/run/sandboxd/owned: RO
c:/dev/owned: RO
c:/proc/owned: -
w:/usr/bin/true: RO
w:/etc/passwd: RO
w:/etc/ld.so.cache: RO
w:/hostile/probe_open: RO

c:/tmp/mine: OK
c:/home/sandbox/mine: OK
c:/dev/shm/mine: OK
w:/dev/null: OK
r:/dev/zero: OK
r:/dev/urandom: OK
r:/proc/self/status: OK
r:/etc/passwd: OK
r:/usr/bin/true: OK
x:/usr/bin/true: OK
`

func TestHostFiles(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		table := strings.ReplaceAll(files, ": -\n", ": ENOENT|EACCES|EPERM|ENOTDIR|EROFS|ENODATA|EIO|ENXIO\n")
		table = strings.ReplaceAll(table, ": RO\n", ": EROFS|EACCES|EPERM|ETXTBSY\n")
		var argv []string
		for line := range strings.Lines(table) {
			if name, _, ok := cutLast(line); ok {
				argv = append(argv, name)
			}
		}
		res := c.attack(t, "", append([]string{"probe_open"}, argv...)...)
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, table)
	})
}

// What lies on the host beside the way of a mount is not to be seen.
func TestHostPathsDoNotShow(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		secret := filepath.Join(base, "canary")
		res := c.attack(t, "", "probe_open", "r:"+secret, "l:"+base, "l:"+c.home, "r:/hostile/../canary", "r:/proc/self/root/"+secret, "r:/proc/self/cwd/../.."+secret)
		for line := range strings.Lines(res.stdout) {
			if !strings.HasSuffix(line, ": ENOENT\n") && !strings.HasSuffix(line, ": EACCES\n") {
				t.Errorf("a host path shows: %s", line)
			}
		}
		// The mount table, the cgroup and the environment do not tell where we live.
		res = c.run(t, "", "/bin/sh", "-c", "cat /proc/self/mountinfo /proc/self/mounts /proc/self/cgroup /proc/self/environ; hostname; cat /etc/passwd /etc/hosts")
		res.want(t, 0, sandbox.Exited)
		host, _ := os.Hostname()
		own, _ := os.ReadFile("/proc/self/cgroup")
		words := []string{base, c.home, "sandboxd-integration"}
		for line := range strings.Lines(string(own)) {
			if _, path, ok := strings.Cut(strings.TrimSpace(line), ":/"); ok && path != "" {
				words = append(words, path)
			}
		}
		if len(host) > 3 {
			words = append(words, host)
		}
		for _, w := range words {
			if strings.Contains(res.stdout, w) {
				t.Errorf("the sandbox shows %q:\n%s", w, res.stdout)
			}
		}
	})
}

// Servers on the host: what --network none must not reach, and host must.
func TestNetwork(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		tcp := listen(t, "tcp", "127.0.0.1:0")
		_, port, err := net.SplitHostPort(tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		abstract, socket := "sandboxd-integration-"+filepath.Base(d), filepath.Join(d, "docker.sock")
		listen(t, "unix", "@"+abstract)
		listen(t, "unix", socket)
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
		probe := []string{"probe_net", "tcp:" + port, "tcp6:" + port, "udp:" + port, "abstract:" + abstract, "unix:" + socket}
		const sealed = "abstract: ECONNREFUSED|EPERM|ENOENT\nunix: ENOENT\n"
		const closed = "ECONNREFUSED|ENETUNREACH|EACCES|EPERM|EADDRNOTAVAIL|EAFNOSUPPORT"

		res := c.attack(t, "", probe...)
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, "tcp: "+closed+"\ntcp6: "+closed+"\nudp: "+closed+"|EAGAIN\n"+sealed)

		probe[0] = "probe_net"
		res = c.attack(t, "--network host", probe...)
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, "tcp: OK\ntcp6: "+closed+"\nudp: "+closed+"|EAGAIN\n"+sealed)
		if res.report != nil && res.report.Isolation.Network != "host" {
			t.Errorf("the report calls the network %q", res.report.Isolation.Network)
		}
		// Loopback of one's own works under none: programs expect to talk to themselves.
		c.run(t, "", "/usr/bin/python3", "-c", "import socket as s; l=s.create_server(('127.0.0.1',0)); s.create_connection(l.getsockname())").want(t, 0, sandbox.Exited)
	})
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
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
