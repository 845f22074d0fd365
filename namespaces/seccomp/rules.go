package seccomp

import "golang.org/x/sys/unix"

// Values of <linux/fcntl.h>, <linux/stat.h>, <linux/sched.h> and <asm/ioctls.h>
// that are the same on every architecture with a table. O_TMPFILE of x/sys is
// not usable: it includes O_DIRECTORY, which differs.
const (
	oCreate  = 0o100
	oTmpfile = 0o20000000 // __O_TMPFILE
	setID    = 0o6000     // S_ISUID | S_ISGID

	// CLONE_NEWTIME is not among them: clone(2) reads that bit as part of the
	// exit signal, only clone3 and unshare know it as a flag.
	cloneNew = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

	tiocsti   = 0x5412
	tioclinux = 0x541c

	sockType = 0xf // the rest of the word is SOCK_CLOEXEC, SOCK_NONBLOCK
)

// rules are the parts of the default policy that are more than "allowed". The
// package comment says why.
var rules = []Rule{
	{Name: "clone", Cases: []Case{{[]Cond{unset(0, cloneNew)}, Allow}}},
	{Name: "ioctl", Cases: []Case{{[]Cond{{Arg: 1, In: []uint32{tiocsti, tioclinux}}}, Deny}}, Else: Allow},
	{Name: "personality", Cases: []Case{
		{[]Cond{{Arg: 0, In: []uint32{0, 0x8, 0x20000, 0x20008, 0xffffffff}}}, Allow}, // moby's five
	}, Else: eperm},

	{Name: "socket", Cases: []Case{
		{[]Cond{{Arg: 0, In: []uint32{unix.AF_UNIX}}}, Allow},
		{[]Cond{{Arg: 0, In: inet}, {Arg: 1, Mask: sockType, In: streamOrDgram}, {Arg: 2, In: inetProtocols}}, Allow},
		{[]Cond{{Arg: 0, In: inet}, {Arg: 1, Mask: sockType, In: streamOrDgram}}, eprotonosupport},
		{[]Cond{{Arg: 0, In: inet}}, eperm},
		{[]Cond{{Arg: 0, In: netlink}, {Arg: 2, In: []uint32{unix.NETLINK_ROUTE}}}, Allow},
		{[]Cond{{Arg: 0, In: netlink}}, eprotonosupport},
	}},
	{Name: "socketpair", Cases: []Case{{[]Cond{{Arg: 0, In: []uint32{unix.AF_UNIX}}}, Allow}}, Else: eafnosupport},

	// The set-id rules. The mode of open and openat is garbage unless the flags
	// say that a file may be made.
	{Name: "chmod", Cases: []Case{{[]Cond{unset(1, setID)}, Allow}}, Else: eperm},
	{Name: "fchmod", Cases: []Case{{[]Cond{unset(1, setID)}, Allow}}, Else: eperm},
	{Name: "fchmodat", Cases: []Case{{[]Cond{unset(2, setID)}, Allow}}, Else: eperm},
	{Name: "fchmodat2", Cases: []Case{{[]Cond{unset(2, setID)}, Allow}}, Else: eperm},
	{Name: "creat", Cases: []Case{{[]Cond{unset(1, setID)}, Allow}}, Else: eperm},
	{Name: "mknod", Cases: []Case{{[]Cond{unset(1, setID)}, Allow}}, Else: eperm},
	{Name: "mknodat", Cases: []Case{{[]Cond{unset(2, setID)}, Allow}}, Else: eperm},
	{Name: "open", Cases: []Case{{[]Cond{unset(1, oCreate|oTmpfile)}, Allow}, {[]Cond{unset(2, setID)}, Allow}}, Else: eperm},
	{Name: "openat", Cases: []Case{{[]Cond{unset(2, oCreate|oTmpfile)}, Allow}, {[]Cond{unset(3, setID)}, Allow}}, Else: eperm},

	{Name: "clone3", Else: enosys},
	{Name: "openat2", Else: enosys},
	{Name: "vmsplice", Else: enosys},
	{Name: "io_uring_setup", Else: enosys},
	{Name: "get_mempolicy", Else: enosys},
	{Name: "set_mempolicy", Else: enosys},
	{Name: "mbind", Else: enosys},
	{Name: "move_pages", Else: enosys},
	{Name: "lsm_get_self_attr", Else: enosys},
	{Name: "lsm_set_self_attr", Else: enosys},
	{Name: "lsm_list_modules", Else: enosys},
}

// unixOnly stands in for the rule of socket without a network. The families
// that every program may ask for fail softly, the others are denied as ever.
var unixOnly = Rule{Name: "socket", Cases: []Case{
	{[]Cond{{Arg: 0, In: []uint32{unix.AF_UNIX}}}, Allow},
	{[]Cond{{Arg: 0, In: []uint32{unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}}}, eafnosupport},
}}

var (
	inet          = []uint32{unix.AF_INET, unix.AF_INET6}
	netlink       = []uint32{unix.AF_NETLINK}
	streamOrDgram = []uint32{unix.SOCK_STREAM, unix.SOCK_DGRAM}
	inetProtocols = []uint32{unix.IPPROTO_IP, unix.IPPROTO_ICMP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6}
	zero          = []uint32{0}
)

// unset holds when no bit of mask is set in an argument.
func unset(arg uint8, mask uint32) Cond { return Cond{Arg: arg, Mask: mask, In: zero} }
