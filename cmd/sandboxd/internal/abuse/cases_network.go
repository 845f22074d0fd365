package abuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
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
			Want: "OK" + unmapped + " # a socket answers whoever may open it: a directory with a daemon's socket in it lets the daemon in", Attack: dialPath,
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
