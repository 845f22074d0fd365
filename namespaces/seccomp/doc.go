// Package seccomp decides which system calls a sandboxed program may make, and
// compiles that decision into the classic BPF program that the kernel runs
// before every call (seccomp(2), SECCOMP_SET_MODE_FILTER). It is data and a
// compiler; installing the filter is the business of whoever starts the program:
//
//	policy, err := seccomp.Default(seccomp.Native(), seccomp.Options{})
//	...
//	filter, err := policy.Compile()
//	...
//	raw := filter.Bytes() // an array of struct sock_filter
//
// # The default policy
//
// The list starts from moby's default profile for a container without
// capabilities, and everything in it stays allowed unless this table says
// otherwise. What neither names is denied.
//
//	call                                   answer        why
//	clone with a CLONE_NEW* flag           denied        a user namespace opens most of the kernel (moby too)
//	clone3, openat2                        ENOSYS        arguments behind a pointer; libc falls back to clone, openat
//	ioctl TIOCSTI, TIOCLINUX               denied        types into the terminal that the sandbox was started from
//	chmod, fchmod, fchmodat, fchmodat2,    EPERM         with a set-id bit: no host directory lent for writing
//	  creat, mknod, mknodat, and open,                   ever receives a set-id program. mkdir(2) needs no rule:
//	  openat when they create                            the kernel drops both bits of its mode itself
//	socket of AF_UNIX; netlink route;      allowed       what programs use; getifaddrs(3) is netlink route
//	  AF_INET(6) stream or datagram with
//	  protocol 0, ICMP, ICMPv6, TCP, UDP
//	socket, other AF_INET(6) protocols     EPROTONOSUPPORT  SCTP, L2TP, SMC, MPTCP load modules; answer of a kernel without
//	socket, AF_INET(6) raw and other types EPERM         answer of the kernel to a process without CAP_NET_RAW
//	socket, other netlink protocols        EPROTONOSUPPORT  netfilter, xfrm, audit, uevent
//	socket, other families                 denied        AF_ALG, AF_VSOCK, AF_RXRPC, AF_KEY, AF_PACKET, AF_XDP, ...
//	socketpair other than AF_UNIX          EAFNOSUPPORT  only AF_UNIX and TIPC have pairs
//	personality other than moby's five     EPERM         no ASLR or READ_IMPLIES_EXEC switches
//	ptrace, process_vm_readv, _writev      denied        other processes' memory; debuggers need a policy of their own
//	adjtimex, clock_adjtime                denied        a write cannot be told from a read
//	modify_ldt, memfd_secret,              denied        attack surface without use
//	  name_to_handle_at, fanotify_mark
//	vmsplice, io_uring_setup               ENOSYS        attack surface, but programs try and fall back
//	get_mempolicy, set_mempolicy, mbind,   ENOSYS        libnuma asks in its constructor, unasked
//	  move_pages
//	lsm_get_self_attr, lsm_set_self_attr,  ENOSYS        security libraries try these before /proc/self/attr
//	  lsm_list_modules
//	numbers newer than moby's newest       ENOSYS        a program built for a newer kernel takes its fallback
//	int 0x80, x32, 32-bit Arm              ENOSYS        or denied, in kill mode: two more ABIs are twice more code to reach
//
// Everything moby already refuses without a capability is denied here too:
// io_uring_enter, the keyring, bpf, perf_event_open, userfaultfd, kcmp,
// pidfd_getfd, mount and its relatives, unshare, setns, chroot, quotactl,
// kexec, modules, reboot, swap, acct, setting the clock, iopl, ioperm,
// open_by_handle_at.
//
// landlock_* and seccomp(2) itself stay allowed: a program may confine itself
// further, and the kernel answers with the most restrictive of all filters, so
// that a second filter can hide a call from the supervisor but never allow it.
// splice and tee stay allowed: sendfile(2) runs the same code anyway.
//
// # Denied, or killed
//
// "Denied" is EPERM. With [Options.Kill] it is SECCOMP_RET_USER_NOTIF: the
// caller stops, the supervisor reads the number of the call from a [Listener]
// and kills the sandbox. Answers that the table spells as an errno stay that
// errno in kill mode: those are calls, or arguments, that ordinary programs and
// libraries try and expect to fail, and a kernel built with fewer options or an
// unprivileged process would see the same.
//
// Every argument that is compared is an int, an unsigned int or a umode_t in
// the kernel, which ignores the upper half of the register. So does the filter:
// comparing 64 bits is the bug by which TIOCSTI was reached in snapd
// (CVE-2019-7303).
//
// # Non-goals
//
// A filter sees registers, not memory: it knows no paths, addresses or names.
// Files are Landlock's and the mount namespace's business. A filter is not a
// boundary by itself; the kernel behind the allowed calls is shared.
package seccomp
