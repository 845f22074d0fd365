package abuse

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox"
)

// blow is something to do to a process that is not one's own.
type blow struct {
	name, says string
	init       string // what happens when it hits one's own init
	hit        func(pid int) error
}

func blows() []blow {
	file := func(name string) func(int) error {
		return func(pid int) error { return reads(fmt.Sprintf("/proc/%d/%s", pid, name)) }
	}
	signal := func(send func(int) error) func(int) error {
		return func(pid int) error {
			if err := send(pid); err != nil || pid != os.Getppid() {
				return err
			}
			time.Sleep(50 * time.Millisecond) // an init that it hit would not have let us live
			return word("no effect")
		}
	}
	const unread, ownID = "EACCES|EPERM|EROFS", "; without own-ids and landlock-scopes: no effect # an ordinary user's init has the program's id, and the kernel shields it"
	var b [64]byte
	return []blow{
		{"ptrace", "trace", "EPERM", func(pid int) error {
			return inChild(unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_SEIZE, uintptr(pid)})
		}},
		{"vm-read", "read the memory of", "EPERM", func(pid int) error {
			iov := words(uint32(uintptr(unsafe.Pointer(&operands[0]))), uint32(uint64(uintptr(unsafe.Pointer(&operands[0])))>>32), 8, 0)
			return inChild(unix.SYS_PROCESS_VM_READV, [6]uintptr{uintptr(pid), iov, 1, iov, 1})
		}},
		{"vm-write", "write the memory of", "EPERM", func(pid int) error {
			iov := words(uint32(uintptr(unsafe.Pointer(&operands[0]))), uint32(uint64(uintptr(unsafe.Pointer(&operands[0])))>>32), 0, 0)
			return inChild(unix.SYS_PROCESS_VM_WRITEV, [6]uintptr{uintptr(pid), iov, 1, iov, 1})
		}},
		{"pidfd-getfd", "take a descriptor of", "EPERM", func(pid int) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			got, err := unix.PidfdGetfd(fd, 0, 0)
			if err == nil {
				unix.Close(got)
			}
			return err
		}},
		{"setns", "enter the namespaces of", "EPERM", func(pid int) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return inChild(unix.SYS_SETNS, [6]uintptr{uintptr(fd), unix.CLONE_NEWUTS})
		}},
		{"mem", "open the memory file of", unread, func(pid int) error { return opens(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDWR) }},
		{"environ", "read the environment of", unread, file("environ")},
		{"maps", "read the address map of", unread, file("maps")},
		{"exe", "open the program of", unread, func(pid int) error { return opens(fmt.Sprintf("/proc/%d/exe", pid), unix.O_RDONLY) }},
		{"fd", "follow a descriptor of", unread, func(pid int) error { _, err := unix.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid), b[:]); return err }},
		{"namespace", "open a namespace of", unread, func(pid int) error { return opens(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY) }},
		{"oom-score", "have the kernel spare or kill", "EACCES|EPERM|EROFS", func(pid int) error { return opens(fmt.Sprintf("/proc/%d/oom_score_adj", pid), unix.O_WRONLY) }},
		{"prlimit", "change the limits of", "EPERM; without own-ids: OK # it harms the sandbox's own init only", func(pid int) error {
			var old unix.Rlimit
			if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &old); err != nil {
				return err
			}
			return unix.Prlimit(pid, unix.RLIMIT_CORE, &old, nil)
		}},
		{"priority", "slow down", "EPERM|EACCES; without own-ids: OK # it harms the sandbox's own init only", func(pid int) error {
			return unix.Setpriority(unix.PRIO_PROCESS, pid, 5)
		}},
		{"affinity", "move between CPUs", "EPERM; without own-ids: OK # it harms the sandbox's own init only", func(pid int) error {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(0, &set); err != nil {
				return err
			}
			return unix.SchedSetaffinity(pid, &set)
		}},
		{"stop", "stop", "EPERM" + ownID, signal(func(pid int) error { return unix.Kill(pid, unix.SIGSTOP) })},
		{"kill", "kill", "EPERM" + ownID, signal(func(pid int) error { return unix.Kill(pid, unix.SIGKILL) })},
		{"pidfd-kill", "kill, by pidfd,", "EPERM" + ownID, signal(func(pid int) error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		})},
	}
}

func processCases() []Case {
	var all []Case
	for _, b := range blows() {
		init := Case{ID: "process/init-" + b.name, Says: b.says + " the sandbox's own init", Want: b.init, OnHost: true}
		init.Attack = func(args []string) error {
			if len(args) > 0 { // the control has another process to attack
				pid, err := strconv.Atoi(args[0])
				if err != nil {
					return err
				}
				return b.hit(pid)
			}
			return b.hit(os.Getppid())
		}
		init.Stage = func(s *stage) error {
			if !s.bare {
				return nil
			}
			return s.bystander()
		}
		all = append(all, init)
	}
	for _, t := range []struct{ name, says string }{{"outsider", "a process of the caller's"}, {"neighbour", "another actor's program"}} {
		for _, b := range blows() {
			// Where the process does not show, that is the answer; a filter may come first.
			c := Case{ID: "process/" + t.name + "-" + b.name, Says: b.says + " " + t.says, Want: "ESRCH|ENOENT|EPERM|EACCES", OnHost: true}
			c.Attack = func(args []string) error {
				pid, err := strconv.Atoi(args[0])
				if err != nil {
					return err
				}
				return b.hit(pid)
			}
			c.Stage = func(s *stage) error {
				if t.name == "neighbour" && !s.bare {
					return s.neighbour()
				}
				return s.bystander()
			}
			all = append(all, c)
		}
	}
	caps := func() uintptr { return words(1<<21, 1<<21, 0, 0, 0, 0) } // CAP_SYS_ADMIN
	return append(all,
		Case{
			ID: "process/kill-all", Says: "kill everything that shows", Want: "spared", NoControl: "it would be everything on this host",
			Attack: func(args []string) error {
				if pid, err := strconv.Atoi(args[0]); err != nil || unix.Kill(pid, 0) == nil {
					return err // it would reach the caller's processes, so it is not done
				}
				if err := unix.Kill(-1, unix.SIGKILL); err != nil && err != unix.ESRCH && err != unix.EPERM {
					return err
				}
				time.Sleep(50 * time.Millisecond)
				return word("spared")
			},
			Stage: func(s *stage) error { return s.bystander() },
			Judge: func(s *stage, outcome string, _ *sandbox.Report) string {
				if s.bystanderGone() {
					return Through
				}
				return outcome
			},
		},
		call("process/traceme", "be traced by the parent", "EPERM", unix.SYS_PTRACE, 0),
		call("process/setuid", "become uid 0", "EPERM|EINVAL", unix.SYS_SETUID, 0).from("CVE-2026-30892"),
		call("process/setresuid", "become another uid", "EPERM|EINVAL", unix.SYS_SETRESUID, 65534, 65534, 65534),
		call("process/setgid", "become gid 0", "EPERM|EINVAL", unix.SYS_SETGID, 0),
		call("process/setgroups", "join a group", "EPERM", unix.SYS_SETGROUPS, 1, words(0)),
		call("process/capset", "take a capability", "EPERM", unix.SYS_CAPSET, words(0x20080522, 0), caps()),
		call("process/ambient", "pass a capability on", "EPERM", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, 21).noControl("a capability must be inheritable first, which without a sandbox answers the same"),
		call("process/securebits", "let uid 0 mean something", "EPERM", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, 0),
		call("process/hostname", "change the host name", "EPERM", unix.SYS_SETHOSTNAME, raw("owned"), 5),
		call("process/domainname", "change the domain name", "EPERM", unix.SYS_SETDOMAINNAME, raw("owned"), 5),
		call("process/rlimit", "raise a limit", "EPERM", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, words(4096, 0, 4096, 0), 0),
		call("process/realtime", "run before everybody else", "EPERM", unix.SYS_SCHED_SETSCHEDULER, 0, 1, words(1)),
		call("process/nice", "run with more weight", "EPERM|EACCES", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, none-4),
		call("process/ioprio", "read the disk before everybody else", "EPERM", unix.SYS_IOPRIO_SET, 1, 0, 1<<13),
		Case{ID: "process/oom-adj", Says: "have the kernel kill others before it", Ref: "hashicorp/nomad#10663", Want: "EACCES|EPERM|EROFS", Attack: func([]string) error {
			return os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
		}},
		fact("process/capabilities", "has a capability in any set that counts", "CVE-2022-29162", "none", func() error {
			for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
				if strings.Trim(status(set), "0") != "" {
					return nil
				}
			}
			return word("none")
		}),
		fact("process/bounding-set", "could get a capability by executing as uid 0", "", "none", func() error {
			bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
			if err != nil {
				return err
			}
			const locked = 0x2f // NOROOT, NO_SETUID_FIXUP and KEEP_CAPS_LOCKED, all locked
			if strings.Trim(status("CapBnd"), "0") != "" && bits&locked != locked {
				return nil
			}
			return word("none")
		}),
		fact("process/no-new-privs", "may gain privileges by set-id programs", "", "set", func() error {
			if status("NoNewPrivs") == "1" {
				return word("set")
			}
			return nil
		}),
		fact("process/filter", "runs without a system call filter", "", "set", func() error {
			if status("Seccomp") == "2" {
				return word("set")
			}
			return nil
		}),
	)
}

// fact is a case that looks at the program's own state.
func fact(id, says, ref, want string, look func() error) Case {
	return Case{ID: id, Says: says, Ref: ref, Want: want, Attack: func([]string) error { return look() }}
}

// status is a field of /proc/self/status.
func status(key string) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	_, rest, _ := strings.Cut(string(b), "\n"+key+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
