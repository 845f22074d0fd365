package seccomp

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// denied holds in every policy, on every architecture that has the call,
// whatever the arguments: the promise of the package comment, by hand.
const denied = `
	io_uring_enter io_uring_register keyctl add_key request_key bpf perf_event_open userfaultfd
	ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise
	mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr
	unshare setns modify_ldt name_to_handle_at open_by_handle_at quotactl quotactl_fd
	kexec_load kexec_file_load init_module finit_module delete_module create_module
	reboot swapon swapoff acct settimeofday clock_settime adjtimex clock_adjtime iopl ioperm memfd_secret
	sethostname setdomainname syslog vhangup fanotify_init fanotify_mark lookup_dcookie
	nfsservctl uselib ustat sysfs _sysctl migrate_pages set_mempolicy_home_node`

// probed fails with ENOSYS in every policy.
const probed = `
	clone3 openat2 vmsplice io_uring_setup get_mempolicy set_mempolicy mbind move_pages
	lsm_get_self_attr lsm_set_self_attr lsm_list_modules
	open_tree_attr file_getattr file_setattr listns rseq_slice_yield`

// allowed runs in every policy with arguments of zero.
const allowed = `
	read write close openat newfstatat statx mmap mprotect munmap brk execve execveat exit exit_group wait4 waitid
	clone vfork fork futex rseq set_robust_list set_tid_address rt_sigaction rt_sigreturn rt_sigprocmask
	prlimit64 getrandom arch_prctl prctl sched_getaffinity sched_yield clock_gettime clock_nanosleep nanosleep
	pipe2 dup dup2 dup3 fcntl ioctl lseek pread64 pwrite64 readv writev getdents64 getcwd chdir mkdir mkdirat
	unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat readlink readlinkat
	chmod fchmod fchmodat fchmodat2 chown fchown fchownat umask truncate ftruncate fsync fdatasync fallocate flock
	epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 poll ppoll select pselect6 eventfd2 timerfd_create signalfd4 inotify_init1
	bind listen accept accept4 connect sendto recvfrom sendmsg recvmsg setsockopt getsockopt shutdown
	memfd_create copy_file_range sendfile splice tee close_range pidfd_open pidfd_send_signal kill tgkill
	landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp mseal membarrier madvise mincore
	setpriority sched_setscheduler capget capset setuid setgid setgroups getxattr setxattr mknodat personality
	shmget shmat semget msgget mq_open io_setup io_submit io_getevents restart_syscall`

func TestNamedCalls(t *testing.T) {
	for _, p := range policies(t) {
		f := compile(t, p)
		for _, list := range []struct {
			names string
			want  Action
		}{{denied, p.Default}, {probed, Errno(unix.ENOSYS)}, {allowed, Allow}} {
			known := 0
			for name := range strings.FieldsSeq(list.names) {
				nr, ok := p.Arch.Number(name)
				if !ok {
					continue
				}
				known++
				if got, _, err := run(f, call{arch: p.Arch, nr: uint32(nr)}); got != list.want || err != nil {
					t.Errorf("%v: %s answers %#x (%v), want %#x", p.Arch, name, got, err, list.want)
				}
			}
			if n := len(strings.Fields(list.names)); known < n*3/4 {
				t.Errorf("%v knows %d of %d names", p.Arch, known, n)
			}
		}
	}
	for name := range strings.FieldsSeq(denied + probed + allowed) {
		if _, ok := AMD64.Number(name); !ok && name != "create_module" {
			t.Errorf("amd64 has no %s: a list of this test is misspelt", name)
		}
	}
}

// Arguments and their answers, by hand. A zero want is the default answer.
func TestArguments(t *testing.T) {
	const high = 0xdeadbeef_00000000 // never looked at, whatever the call
	perm, family, proto := Errno(unix.EPERM), Errno(unix.EAFNOSUPPORT), Errno(unix.EPROTONOSUPPORT)
	for _, tt := range []struct {
		name   string
		want   Action
		noInet Action // with NoInet
		args   []uint64
	}{
		{"clone", Allow, Allow, []uint64{unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_THREAD | 17}},
		{"clone", Deny, Deny, []uint64{unix.CLONE_NEWUSER}},
		{"clone", Deny, Deny, []uint64{unix.CLONE_NEWNET | unix.CLONE_VM}},
		{"clone", Deny, Deny, []uint64{unix.CLONE_NEWNS | high}},
		{"clone", Deny, Deny, []uint64{unix.CLONE_NEWCGROUP | 17}},
		{"clone", Allow, Allow, []uint64{17 | high}},

		{"ioctl", Allow, Allow, []uint64{0, unix.TCGETS}},
		{"ioctl", Deny, Deny, []uint64{0, unix.TIOCSTI}},
		{"ioctl", Deny, Deny, []uint64{0, unix.TIOCSTI | high}},
		{"ioctl", Deny, Deny, []uint64{0, unix.TIOCLINUX | high}},
		{"ioctl", Allow, Allow, []uint64{unix.TIOCSTI, unix.TIOCGWINSZ}},

		{"personality", Allow, Allow, []uint64{0xffffffff}},
		{"personality", Allow, Allow, []uint64{1<<64 - 1}},
		{"personality", perm, perm, []uint64{0x40000}}, // ADDR_NO_RANDOMIZE

		{"socket", Allow, Allow, []uint64{unix.AF_UNIX, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK}},
		{"socket", Allow, Allow, []uint64{unix.AF_UNIX | high, unix.SOCK_SEQPACKET}},
		{"socket", Allow, family, []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}},
		{"socket", Allow, family, []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP}},
		{"socket", Allow, family, []uint64{unix.AF_INET, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, unix.IPPROTO_UDP}},
		{"socket", Allow, family, []uint64{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6}},
		{"socket", perm, family, []uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}},
		{"socket", perm, family, []uint64{unix.AF_INET, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP}},
		{"socket", perm, family, []uint64{unix.AF_INET6 | high, unix.SOCK_RAW | high, unix.IPPROTO_TCP}},
		{"socket", perm, family, []uint64{unix.AF_INET, unix.SOCK_PACKET, 0}},
		{"socket", perm, family, []uint64{unix.AF_INET, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP}},
		{"socket", proto, family, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}},
		{"socket", proto, family, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}},
		{"socket", proto, family, []uint64{unix.AF_INET, unix.SOCK_DGRAM, 115}}, // L2TP
		{"socket", Allow, family, []uint64{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE}},
		{"socket", proto, family, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}},
		{"socket", proto, family, []uint64{unix.AF_NETLINK, unix.SOCK_DGRAM, unix.NETLINK_XFRM | high}},
		{"socket", Deny, Deny, []uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}},
		{"socket", Deny, Deny, []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}},
		{"socket", Deny, Deny, []uint64{unix.AF_RXRPC, unix.SOCK_DGRAM}},
		{"socket", Deny, Deny, []uint64{unix.AF_KEY, unix.SOCK_RAW}},
		{"socket", Deny, Deny, []uint64{unix.AF_PACKET, unix.SOCK_RAW}},
		{"socket", Deny, Deny, []uint64{unix.AF_XDP, unix.SOCK_RAW}},
		{"socketpair", Allow, Allow, []uint64{unix.AF_UNIX, unix.SOCK_STREAM}},
		{"socketpair", family, family, []uint64{unix.AF_TIPC, unix.SOCK_STREAM}},

		{"chmod", Allow, Allow, []uint64{0, 0o1777}},
		{"chmod", perm, perm, []uint64{0, 0o4755}},
		{"fchmod", perm, perm, []uint64{0, 0o2755}},
		{"fchmod", Allow, Allow, []uint64{0o6000, 0o777}},
		{"fchmodat", perm, perm, []uint64{0, 0, 0o4000}},
		{"fchmodat2", perm, perm, []uint64{0, 0, 0o6755, 0x100}},
		{"fchmodat2", Allow, Allow, []uint64{0, 0, 0o755, 0x100}},
		{"creat", perm, perm, []uint64{0, 0o4755}},
		{"mknod", perm, perm, []uint64{0, unix.S_IFREG | 0o4755}},
		{"mknodat", perm, perm, []uint64{0, 0, unix.S_IFREG | 0o2755}},
		{"mknodat", Allow, Allow, []uint64{0, 0, unix.S_IFIFO | 0o600}},
		{"mkdirat", Allow, Allow, []uint64{0, 0, 0o2755}},
		{"open", perm, perm, []uint64{0, unix.O_CREAT | unix.O_WRONLY, 0o4755}},
		{"open", Allow, Allow, []uint64{0, unix.O_RDONLY, 0o4755}},
		{"openat", Allow, Allow, []uint64{0, 0, unix.O_RDWR | unix.O_CLOEXEC, 1<<64 - 1}}, // garbage without O_CREAT
		{"openat", Allow, Allow, []uint64{0, 0, unix.O_CREAT, 0o1666}},
		{"openat", perm, perm, []uint64{0, 0, unix.O_CREAT, 0o4755}},
		{"openat", perm, perm, []uint64{0, 0, unix.O_CREAT | unix.O_EXCL | high, 0o2755 | high}},
		{"openat", perm, perm, []uint64{0, 0, unix.O_TMPFILE | unix.O_RDWR, 0o4700}},
		{"openat", perm, perm, []uint64{0, 0, 0o20000000 | 0o40000 | unix.O_RDWR, 0o4700}}, // O_TMPFILE of arm64
	} {
		for _, a := range []Arch{AMD64, ARM64} {
			nr, ok := a.Number(tt.name)
			if !ok {
				if a == AMD64 {
					t.Errorf("no %s", tt.name)
				}
				continue
			}
			for _, o := range []Options{{}, {Kill: true}, {NoInet: true}, {Kill: true, NoInet: true}} {
				p, err := Default(a, o)
				if err != nil {
					t.Fatal(err)
				}
				want := tt.want
				if o.NoInet {
					want = tt.noInet
				}
				if want == Deny && o.Kill {
					want = Notify
				} else if want == Deny {
					want = perm
				}
				c := call{arch: a, nr: uint32(nr)}
				copy(c.args[:], tt.args)
				if got, _, err := run(compile(t, p), c); got != want || err != nil {
					t.Errorf("%v %s%#x with %+v: %#x (%v), want %#x", a, tt.name, tt.args, o, got, err, want)
				}
			}
		}
	}
}

func TestForeignAndNewer(t *testing.T) {
	for _, kill := range []bool{false, true} {
		p, err := Default(AMD64, Options{Kill: kill})
		if err != nil {
			t.Fatal(err)
		}
		f := compile(t, p)
		foreign := Errno(unix.ENOSYS)
		if kill {
			foreign = Notify
		}
		for name, tt := range map[string]struct {
			call
			want Action
		}{
			"i386 getpid": {call{arch: unix.AUDIT_ARCH_I386, nr: 20}, foreign},
			"x32 getpid":  {call{arch: AMD64, nr: x32Bit | 39}, foreign},
			"number 467":  {call{arch: AMD64, nr: 467}, Errno(unix.ENOSYS)},
			"number 9999": {call{arch: AMD64, nr: 9999}, Errno(unix.ENOSYS)},
		} {
			if got, _, err := run(f, tt.call); got != tt.want || err != nil {
				t.Errorf("%s, kill %v: %#x (%v), want %#x", name, kill, got, err, tt.want)
			}
		}
	}
}

func TestNoAffinity(t *testing.T) {
	for _, a := range []Arch{AMD64, ARM64} {
		nr, _ := a.Number("sched_setaffinity")
		for _, o := range []Options{{}, {NoAffinity: true}, {NoAffinity: true, Kill: true}} {
			want := Allow
			if o.NoAffinity {
				want = Errno(unix.EPERM)
			}
			p, err := Default(a, o)
			if err != nil {
				t.Fatal(err)
			}
			if got, _, _ := run(compile(t, p), call{arch: a, nr: uint32(nr)}); got != want {
				t.Errorf("%v %+v: %#x, want %#x", a, o, got, want)
			}
		}
	}
}

func TestOwnLimits(t *testing.T) {
	for _, a := range []Arch{AMD64, ARM64} {
		for name, args := range map[string][2][]uint64{ // of the caller, of another
			"prlimit64":                            {{0}, {4711}},
			"setpriority":                          {{unix.PRIO_PROCESS, 0}, {unix.PRIO_PROCESS, 4711}},
			"setpriority of all that the user has": {{unix.PRIO_PROCESS, 0}, {unix.PRIO_USER, 0}},
		} {
			name, _, _ := strings.Cut(name, " ")
			nr, _ := a.Number(name)
			for _, o := range []Options{{}, {OwnLimits: true}, {OwnLimits: true, Kill: true}} {
				p, err := Default(a, o)
				if err != nil {
					t.Fatal(err)
				}
				for i, args := range args {
					want := Allow
					if o.OwnLimits && i == 1 {
						want = Errno(unix.EPERM)
					}
					c := call{arch: a, nr: uint32(nr)}
					copy(c.args[:], args)
					if got, _, _ := run(compile(t, p), c); got != want {
						t.Errorf("%v %+v: %s%v: %#x, want %#x", a, o, name, args, got, want)
					}
				}
			}
		}
	}
}

// A rule whose name no architecture has would be dropped without a word.
func TestRuleNamesExist(t *testing.T) {
	for _, r := range rules {
		if _, ok := AMD64.Number(r.Name); !ok {
			t.Errorf("rule for %q: no such call", r.Name)
		}
		if _, ok := ARM64.Number(r.Name); !ok && !slices.Contains([]string{"chmod", "creat", "mknod", "open"}, r.Name) {
			t.Errorf("rule for %q: no such call on arm64", r.Name)
		}
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]string{
		"ptrace":              AMD64.Name(101),
		"uretprobe":           AMD64.Name(335),
		"mseal":               ARM64.Name(462),
		"newfstatat":          ARM64.Name(79),
		"syscall 9999":        AMD64.Name(9999),
		"syscall -1":          AMD64.Name(-1),
		"x32 syscall 39":      AMD64.Name(x32Bit | 39),
		"i386 syscall 20":     Arch(unix.AUDIT_ARCH_I386).Name(20),
		"arch-0x7 syscall 20": Arch(7).Name(20),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, a := range []Arch{AMD64, ARM64} {
		for nr := range 600 {
			if name := a.Name(nr); !strings.HasPrefix(name, "syscall ") {
				if back, ok := a.Number(name); !ok || back != nr {
					t.Errorf("%v: %s is %d and %d (%v)", a, name, nr, back, ok)
				}
			}
		}
	}
	if _, ok := AMD64.Number("no_such_call"); ok {
		t.Error("found no_such_call")
	}
	if name := Native().Name(unix.SYS_GETPID); name != "getpid" {
		t.Errorf("getpid is %s", name)
	}
}
