package abuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

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
					if f := strings.Fields(line); len(f) > 4 && f[4] == "/" && !strings.Contains(line, " - tmpfs ") {
						return nil // the host's root, and where it lies on its file system
					}
				}
				return word("none")
			},
		},
		{
			ID: "leak/mount-source", Says: "learn where a directory lies that was let in", OnHost: true,
			Want:      "OK" + unmapped + " # the kernel's mount table shows its path on its file system; let in what may be known",
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
