package abuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

func networkCases() []Case {
	var all []Case
	for _, f := range []struct {
		name, says, want, ref  string
		family, kind, protocol int
	}{
		{"raw-icmp", "raw ICMP", "EPERM", "", unix.AF_INET, unix.SOCK_RAW, 1},
		{"raw", "raw IP", "EPERM|EPROTONOSUPPORT", "", unix.AF_INET, unix.SOCK_RAW, 255},
		{"raw-ipv6", "raw IPv6", "EPERM|EPROTONOSUPPORT|EAFNOSUPPORT", "", unix.AF_INET6, unix.SOCK_RAW, 255},
		{"packet", "link-layer frames", "EPERM", "", unix.AF_PACKET, unix.SOCK_RAW, 0x300},
		{"alg", "the kernel's cryptography", "EPERM", "CVE-2026-31431", unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		{"vsock", "the hypervisor's sockets", "EPERM", "isolate 2.5", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"rxrpc", "AFS's protocol", "EPERM", "CVE-2026-43284", unix.AF_RXRPC, unix.SOCK_DGRAM, unix.AF_INET},
		{"key", "IPsec keys", "EPERM", "CVE-2026-43500", unix.AF_KEY, unix.SOCK_RAW, 2},
		{"xfrm", "IPsec rules by netlink", "EPROTONOSUPPORT", "CVE-2026-46300", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM},
		{"netfilter", "firewall rules by netlink", "EPROTONOSUPPORT", "", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"audit", "the audit log by netlink", "EPROTONOSUPPORT", "", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
		{"uevent", "device events by netlink", "EPROTONOSUPPORT", "", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT},
		{"xdp", "frames past the stack", "EPERM", "", unix.AF_XDP, unix.SOCK_RAW, 0},
		{"tipc", "TIPC", "EPERM", "", unix.AF_TIPC, unix.SOCK_SEQPACKET, 0},
		{"smc", "SMC", "EPERM", "", unix.AF_SMC, unix.SOCK_STREAM, 0},
		{"bluetooth", "Bluetooth", "EPERM", "", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
		{"can", "CAN buses", "EPERM", "", unix.AF_CAN, unix.SOCK_RAW, 1},
		{"rds", "RDS", "EPERM", "", unix.AF_RDS, unix.SOCK_SEQPACKET, 0},
		{"sctp", "SCTP", "EPROTONOSUPPORT|EPERM", "", unix.AF_INET, unix.SOCK_STREAM, 132},
		{"mptcp", "multipath TCP", "EPROTONOSUPPORT|EPERM", "", unix.AF_INET, unix.SOCK_STREAM, 262},
	} {
		c := call("network/"+f.name, "a socket for "+f.says, f.want, unix.SYS_SOCKET, uintptr(f.family), uintptr(f.kind), uintptr(f.protocol)).from(f.ref)
		if f.name == "sctp" || f.name == "mptcp" || f.family == unix.AF_NETLINK {
			c = c.noControl("a kernel without it answers the same")
		}
		all = append(all, c)
	}
	const closed = "ECONNREFUSED|ENETUNREACH|EACCES|EPERM|EADDRNOTAVAIL|EAFNOSUPPORT"
	return append(all,
		service("network/loopback-tcp", "connect to a TCP service of the host's loopback", closed, unix.AF_INET, unix.SOCK_STREAM),
		service("network/loopback-tcp6", "the same by IPv6", closed, unix.AF_INET6, unix.SOCK_STREAM),
		service("network/loopback-udp", "reach a UDP service of the host's loopback", closed+"|EAGAIN", unix.AF_INET, unix.SOCK_DGRAM),
		service("network/abstract", "connect to an abstract socket of the host", "ECONNREFUSED|EPERM", unix.AF_UNIX, unix.SOCK_STREAM),
		Case{
			ID: "network/socket-by-path", Says: "connect to a socket of the host by its path", Want: "ENOENT|EACCES", OnHost: true, Attack: dialPath,
			Stage: func(s *stage) error { return s.socketAt(filepath.Join(s.dir, "service.sock")) },
		},
		Case{
			ID: "network/socket-in-a-directory", Says: "connect to a socket in a directory that was let in read-only", OnHost: true,
			Want: "OK # a socket answers whoever may open it: a directory with a daemon's socket in it lets the daemon in", Attack: dialPath,
			NoControl: "it gets through: nothing is there to be taken away",
			Stage: func(s *stage) error {
				s.spec.Mounts = []rootfs.Mount{{Source: s.dir, Target: "/data"}}
				err := s.socketAt(filepath.Join(s.dir, "service.sock"))
				s.args = []string{"/data/service.sock"}
				return err
			},
		},
		Case{ID: "network/interfaces", Says: "see the host's interfaces", Want: "none|EAFNOSUPPORT|EPERM", OnHost: true, Attack: func([]string) error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			var list [64]struct { // struct ifreq
				name [16]byte
				_    [24]byte
			}
			conf := struct {
				size int32
				_    int32
				list unsafe.Pointer
			}{size: int32(unsafe.Sizeof(list)), list: unsafe.Pointer(&list)}
			if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFCONF, uintptr(unsafe.Pointer(&conf))); e != 0 {
				return e
			}
			for i := range int(conf.size) / int(unsafe.Sizeof(list[0])) {
				if name := unix.ByteSliceToString(list[i].name[:]); name != "lo" {
					return nil
				}
			}
			return word("none")
		}},
		Case{
			ID: "network/ping-range", Says: "send ICMP by the unprivileged door", Want: "EPERM|EACCES|EPROTONOSUPPORT|ENETUNREACH", NoControl: "whom the host lets do it is a setting of the host's",
			Attack: func([]string) error {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return unix.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 0}, 0, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}})
			},
		},
	)
}

func dialPath(args []string) error {
	return dial(unix.AF_UNIX, unix.SOCK_STREAM, args[0])
}

func address(family int, where string) unix.Sockaddr {
	port, _ := strconv.Atoi(where)
	switch family {
	case unix.AF_INET:
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	case unix.AF_INET6:
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
	}
	return &unix.SockaddrUnix{Name: where}
}

// dial connects, and waits for the word of whoever is there.
func dial(family, kind int, where string) error {
	fd, err := unix.Socket(family, kind, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, address(family, where)); err != nil {
		return err
	}
	if kind == unix.SOCK_DGRAM {
		if _, err := unix.Write(fd, []byte("?")); err != nil {
			return err
		}
	}
	wait := unix.Timeval{Usec: 200000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 1))
	return err
}

// service is a case about something that listens on the host.
func service(id, says, want string, family, kind int) Case {
	return Case{
		ID: id, Says: says, Want: want, OnHost: true,
		Attack: func(args []string) error { return dial(family, kind, args[0]) },
		Stage: func(s *stage) error {
			where := "0"
			if family == unix.AF_UNIX {
				where = "@sandboxd-selftest-" + strconv.Itoa(os.Getpid()) + "-" + s.backend
			}
			return s.listen(family, kind, where)
		},
	}
}

func (s *stage) socketAt(path string) error {
	if err := s.listen(unix.AF_UNIX, unix.SOCK_STREAM, path); err != nil {
		return err
	}
	return os.Chmod(path, 0o777)
}

// listen says a word to whoever comes, until the stage is closed.
func (s *stage) listen(family, kind int, where string) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	quit := func() { _ = unix.Shutdown(fd, unix.SHUT_RDWR) } // wakes who waits
	if err := unix.Bind(fd, address(family, where)); err != nil {
		return errors.Join(fmt.Errorf("listen for the attack: %w", err), unix.Close(fd))
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 8); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
	}
	s.args = []string{where}
	if name, err := unix.Getsockname(fd); err == nil {
		switch a := name.(type) {
		case *unix.SockaddrInet4:
			s.args[0] = strconv.Itoa(a.Port)
		case *unix.SockaddrInet6:
			s.args[0] = strconv.Itoa(a.Port)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if kind == unix.SOCK_DGRAM {
				_, from, err := unix.Recvfrom(fd, make([]byte, 8), 0)
				if err != nil || from == nil {
					return
				}
				_ = unix.Sendto(fd, []byte("!"), 0, from)
				continue
			}
			c, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			_, _ = unix.Write(c, []byte("!"))
			unix.Close(c)
		}
	}()
	s.after(func() { quit(); <-done; unix.Close(fd) })
	return nil
}

func ipcCases() []Case {
	const key = 0x5a4db0
	id := func(nr uintptr) func([]string) error {
		return func(args []string) error {
			k, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			a := [3]uintptr{uintptr(k), 0, 0}
			_, _, e := unix.Syscall(nr, a[0], a[1], a[2])
			if e != 0 {
				return e
			}
			return nil
		}
	}
	sysv := func(name, says string, get, ctl uintptr, args ...uintptr) Case {
		return Case{ID: "ipc/" + name, Says: says, Want: "ENOENT", OnHost: true, Attack: id(get), Stage: func(s *stage) error {
			k := uintptr(key + os.Getpid()%4096)
			a := append(args, 0, 0)
			object, _, e := unix.Syscall(get, k, a[0], a[1])
			if e != 0 {
				return e
			}
			remove := [2]uintptr{0, 0} // ctl(id, IPC_RMID), and for semaphores ctl(id, 0, IPC_RMID), which is 0 too
			s.after(func() { _, _, _ = unix.Syscall(ctl, object, remove[0], remove[1]) })
			s.args = []string{strconv.Itoa(int(k))}
			return nil
		}}
	}
	queue := "sandboxd-selftest-" + strconv.Itoa(os.Getpid())
	terminal := func(id, says string, request uintptr, arg string) Case {
		return Case{ID: id, Says: says, Want: "EPERM", Attack: func([]string) error {
			_, _, e := unix.Syscall(unix.SYS_IOCTL, 0, request, raw(arg))
			if e != 0 {
				return e
			}
			return nil
		}}
	}
	return []Case{
		sysv("sysv-memory", "attach to shared memory of the host (System V)", unix.SYS_SHMGET, unix.SYS_SHMCTL, 4096, 0o1666),
		sysv("sysv-semaphore", "use a semaphore of the host (System V)", unix.SYS_SEMGET, unix.SYS_SEMCTL, 1, 0o1666),
		sysv("sysv-queue", "use a message queue of the host (System V)", unix.SYS_MSGGET, unix.SYS_MSGCTL, 0o1666),
		{
			ID: "ipc/posix-queue", Says: "open a message queue of the host (POSIX)", Want: "ENOENT|EACCES", OnHost: true,
			Attack: func(args []string) error {
				_, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, raw(args[0]), unix.O_RDWR, 0, 0, 0, 0)
				if e != 0 {
					return e
				}
				return nil
			},
			Stage: func(s *stage) error {
				old := unix.Umask(0)
				fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, raw(queue), unix.O_RDWR|unix.O_CREAT, 0o666, 0, 0, 0)
				unix.Umask(old)
				if e != 0 {
					return e
				}
				s.after(func() { unix.Close(int(fd)); _, _, _ = unix.Syscall(unix.SYS_MQ_UNLINK, raw(queue), 0, 0) })
				s.args = []string{queue}
				return nil
			},
		},
		{
			ID: "ipc/posix-memory", Says: "open shared memory of the host (POSIX)", Want: "ENOENT|EACCES", OnHost: true,
			Attack: func(args []string) error { return opens(args[0], unix.O_RDWR) },
			Stage: func(s *stage) error {
				p := "/dev/shm/" + queue
				s.args = []string{p}
				s.after(func() { os.Remove(p) })
				return errors.Join(os.WriteFile(p, []byte("x"), 0o666), os.Chmod(p, 0o666))
			},
		},
		{
			ID: "ipc/lock", Says: "see whether somebody outside has locked a system file", OnHost: true, NoControl: "it gets through: nothing is there to be taken away",
			Want: "OK # a shared read-only file carries locks; such channels between actors that work together are not closed",
			Attack: func(args []string) error {
				fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
				if err != nil {
					return err
				}
				if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EAGAIN {
					return word("unseen")
				}
				return nil
			},
			Stage: func(s *stage) error {
				const file = "/usr/bin/env"
				fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				s.args = []string{file}
				s.after(func() { unix.Close(fd) })
				return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
			},
		},
		terminal("ipc/tiocsti", "type into the caller's terminal", unix.TIOCSTI, "x").from("CVE-2017-5226"),
		terminal("ipc/tiocsti-dirty", "the same, with rubbish in the upper half of the number", unix.TIOCSTI|1<<32, "x"),
		terminal("ipc/tioclinux", "paste into the console", unix.TIOCLINUX, "\x03"),
		{
			ID: "ipc/controlling-terminal", Says: "reach the caller's terminal by /dev/tty", Want: hidden + "|ENXIO", NoControl: "the suite may have no terminal itself",
			Attack: func([]string) error { return opens("/dev/tty", unix.O_RDWR) },
		},
	}
}

func leakCases() []Case {
	return []Case{
		{
			ID: "leak/descriptors", Says: "use a descriptor that the caller had open", Ref: "CVE-2024-21626", Want: "none",
			NoControl: "Go closes its descriptors at exec by itself; the stage opens one that stays open, and integration TestNothingIsInherited has a caller in Python",
			Attack: func([]string) error {
				var found []string
				for fd := 3; fd < 1024; fd++ {
					if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
						found = append(found, strconv.Itoa(fd))
					}
				}
				if found != nil {
					return nil
				}
				return word("none")
			},
			Stage: func(s *stage) error {
				fd, err := unix.Open("/etc", unix.O_RDONLY, 0) // no O_CLOEXEC
				if err == nil {
					s.after(func() { unix.Close(fd) })
				}
				return err
			},
		},
		{
			ID: "leak/environment", Says: "read the caller's environment", Want: "none", NoControl: "a child outside gets the variables that its starter gives",
			Attack: func([]string) error {
				for _, kv := range os.Environ() {
					if k, _, _ := strings.Cut(kv, "="); !strings.Contains(" PATH HOME USER LANG TMPDIR ", " "+k+" ") {
						return nil
					}
				}
				return word("none")
			},
			Stage: func(s *stage) error {
				s.after(func() { os.Unsetenv("SANDBOXD_SELFTEST_SECRET") })
				return os.Setenv("SANDBOXD_SELFTEST_SECRET", "1")
			},
		},
		fact("leak/directory", "stand in a directory of the caller's", "CVE-2024-21626", "own", func() error {
			wd, err := os.Getwd()
			if err != nil {
				return err
			}
			if home := os.Getenv("HOME"); wd == home && home != "" {
				return word("own")
			}
			return nil
		}),
		fact("leak/signals", "have signals blocked or ignored, as the caller had", "containers/bubblewrap#705", "none", func() error {
			if blocked := strings.Trim(status("SigBlk"), "0"); blocked != "" {
				return nil
			}
			return word("none")
		}).noControl("Go's own start changes them; integration TestNothingIsInherited has a caller in Python"),
		fact("leak/session", "be in the caller's session, as its terminal is", "", "own", func() error {
			sid, err := unix.Getsid(0)
			if err != nil {
				return err
			}
			if parent, err := unix.Getsid(os.Getppid()); err == nil && parent == sid {
				return nil
			}
			return word("own")
		}).noControl("a control has a session of its own, for the host's sake"),
		fact("leak/oom-score", "be spared by the kernel before others", "hashicorp/nomad#10663", "reset", func() error {
			b, err := os.ReadFile("/proc/self/oom_score_adj")
			if err != nil {
				return err
			}
			if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
				return word("reset")
			}
			return nil
		}),
		fact("leak/core", "write a core file of what it was forked from", "", "none", func() error {
			var l unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil {
				return err
			}
			if l.Max == 0 {
				return word("none")
			}
			return nil
		}).noControl("the caller may have no core files either"),
		{
			ID: "leak/paths", Says: "learn from the mount table where the host keeps its files", Want: "none", OnHost: true,
			Attack: func([]string) error {
				b, err := os.ReadFile("/proc/self/mountinfo")
				if err != nil {
					return err
				}
				for line := range strings.Lines(string(b)) {
					if f := strings.Fields(line); len(f) > 4 && f[4] == "/" && f[3] == "/" && !strings.Contains(line, " - tmpfs ") {
						return nil // the root of the host's file system
					}
				}
				return word("none")
			},
		},
		{
			ID: "leak/mount-source", Says: "learn where a directory lies that was let in", OnHost: true,
			Want:      "OK # the kernel's mount table shows its path on its file system; let in what may be known",
			NoControl: "it gets through: nothing is there to be taken away",
			Attack: func(args []string) error {
				b, err := os.ReadFile("/proc/self/mountinfo")
				if err == nil && !strings.Contains(string(b), args[0]) {
					err = word("none")
				}
				return err
			},
			Stage: func(s *stage) error {
				d := filepath.Join(s.dir, "in")
				s.args = []string{filepath.Base(s.dir)}
				s.spec.Mounts = []rootfs.Mount{{Source: d, Target: "/data"}}
				return os.Mkdir(d, 0o755)
			},
		},
		{
			ID: "leak/neighbour-home", Says: "read a file in the home of another actor", Want: "ENOENT|EACCES", NoControl: "a process outside has a home that is no actor's",
			Attack: func(args []string) error { return reads(args[0]) },
			Stage:  func(s *stage) error { return s.neighbour("of-the-neighbour") },
		},
		fact("leak/cgroup", "learn its cgroup's path on the host", "", "none", func() error {
			b, err := os.ReadFile("/proc/self/cgroup")
			if err != nil {
				return err
			}
			if strings.Contains(string(b), "sandboxd") {
				return nil
			}
			return word("none")
		}).noControl("a process outside is in no cgroup of ours"),
		{
			ID: "leak/keyring", Says: "hold the caller's session keyring", Ref: "isolate 2.4", Want: "none|ENOENT", OnHost: true,
			Attack: func(args []string) error {
				b, err := os.ReadFile("/proc/keys") // what one's keyrings lead to
				if err == nil && !strings.Contains(string(b), args[0]) {
					err = word("none")
				}
				return err
			},
			Stage: func(s *stage) error {
				const session = ^uintptr(2) // KEY_SPEC_SESSION_KEYRING
				id, _, e := unix.Syscall(unix.SYS_KEYCTL, 0, session, 1)
				if e != 0 {
					return e
				}
				s.args = []string{fmt.Sprintf("%08x", id)}
				return nil
			},
		},
		{
			ID: "leak/daemon", Says: "leave a process behind that ignores every signal", Want: "gone", OnHost: true,
			Attack: func([]string) error { return leaveDaemon() },
			Stage: func(s *stage) error {
				s.args = []string{"daemon-of-" + filepath.Base(s.dir)} // shows in its command line
				return nil
			},
			Judge: func(s *stage, outcome string, _ *sandbox.Report) string {
				if outcome != Through {
					return outcome
				}
				lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
				for _, l := range lines {
					if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), s.args[0]) {
						return Through
					}
				}
				return "gone"
			},
		},
	}
}
