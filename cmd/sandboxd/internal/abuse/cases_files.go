package abuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

// hidden is how a path answers that is not there, or not for us.
const hidden = "ENOENT|EACCES|EPERM|ENOTDIR|EROFS"

// opening is a case of paths of which none may open.
func opening(id, says string, flags int, paths ...string) Case {
	return Case{ID: id, Says: says + ": " + strings.Join(paths, " "), Want: hidden, Attack: func([]string) error {
		return anyOf(paths, func(p string) error {
			all, err := filepath.Glob(p)
			if err != nil || len(all) == 0 {
				all = []string{p}
			}
			return anyOf(all, func(p string) error {
				if flags&unix.O_ACCMODE == unix.O_RDONLY {
					return reads(p)
				}
				return opens(p, flags)
			})
		})
	}}
}

func fileCases() []Case {
	at := uintptr(unix.AT_FDCWD & (1<<64 - 1))
	handle := words(120, 0)
	tmpfile := func(dir string) error { return opens1(dir, unix.O_TMPFILE|unix.O_RDWR) }
	return []Case{
		call("filesystem/mount-tmpfs", "mount an empty file system", "EPERM", unix.SYS_MOUNT, raw("none"), raw("/tmp"), raw("tmpfs"), 0, 0),
		call("filesystem/mount-proc", "mount another /proc", "EPERM", unix.SYS_MOUNT, raw("none"), raw("/tmp"), raw("proc"), 0, 0),
		call("filesystem/mount-cgroup", "mount the hierarchy of cgroups", "EPERM", unix.SYS_MOUNT, raw("none"), raw("/tmp"), raw("cgroup2"), 0, 0).from("CVE-2022-0492"),
		call("filesystem/mount-bind", "bind the root elsewhere", "EPERM", unix.SYS_MOUNT, raw("/"), raw("/tmp"), 0, unix.MS_BIND|unix.MS_REC, 0),
		call("filesystem/remount-rw", "make the root writable", "EPERM", unix.SYS_MOUNT, 0, raw("/"), 0, unix.MS_REMOUNT|unix.MS_BIND, 0).from("CVE-2026-46695"),
		call("filesystem/mount-shared", "let mounts propagate", "EPERM", unix.SYS_MOUNT, 0, raw("/"), 0, unix.MS_SHARED|unix.MS_REC, 0),
		call("filesystem/umount", "uncover what a mount hides", "EPERM", unix.SYS_UMOUNT2, raw("/proc"), unix.MNT_DETACH),
		call("filesystem/pivot-root", "change the root of all", "EPERM", unix.SYS_PIVOT_ROOT, raw("."), raw(".")),
		call("filesystem/chroot", "change one's root", "EPERM", unix.SYS_CHROOT, raw("/tmp")),
		call("filesystem/open-tree", "copy a tree of mounts", "EPERM", unix.SYS_OPEN_TREE, at, raw("/"), 1),
		call("filesystem/fsopen", "begin a mount by the new calls", "EPERM", unix.SYS_FSOPEN, raw("tmpfs"), 0).from("CVE-2022-0185"),
		call("filesystem/fspick", "change a mounted file system", "EPERM", unix.SYS_FSPICK, at, raw("/"), 0),
		call("filesystem/move-mount", "move a mount", "EPERM", unix.SYS_MOVE_MOUNT, at, raw("/tmp"), at, raw("/"), 0),
		call("filesystem/mount-setattr", "change a mount's attributes", "EPERM", unix.SYS_MOUNT_SETATTR, at, raw("/"), 0, words(0, 0, 0, 0, 0, 0, 0, 0), 32),
		call("filesystem/name-to-handle", "learn a file's handle", "EPERM", unix.SYS_NAME_TO_HANDLE_AT, at, raw("/tmp"), raw(string(unsafeHandle())), words(0), 0),
		call("filesystem/open-by-handle", "open a file of the host's by handle", "EPERM", unix.SYS_OPEN_BY_HANDLE_AT, none, handle, 0),
		{ID: "filesystem/mknod", Says: "make the null device, and a disk", Want: "EPERM|EACCES", Attack: func([]string) error {
			dir := os.TempDir()
			return anyOf([]string{"1:3:null", "254:0:disk"}, func(d string) error {
				var major, minor uint32
				var name string
				if _, err := fmt.Sscanf(strings.ReplaceAll(d, ":", " "), "%d %d %s", &major, &minor, &name); err != nil {
					return err
				}
				return unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor)))
			})
		}},
		opening("filesystem/triggers", "crash the host, or name a helper that its kernel starts", unix.O_WRONLY,
			"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/*/release_agent").from("CVE-2022-0811, CVE-2025-31133"),
		opening("filesystem/sysctl", "tune the kernel", unix.O_WRONLY,
			"/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces", "/proc/irq/default_smp_affinity"),
		opening("filesystem/cgroup", "change limits where they are files", unix.O_WRONLY,
			"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/cgroup.procs", "/sys/fs/cgroup/*/tasks").from("CVE-2023-25809"),
		opening("filesystem/kernel-memory", "read the kernel's memory and log", unix.O_RDONLY, "/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/port", "/dev/kmsg"),
		opening("filesystem/kernel-facts", "read what the kernel tells of all", unix.O_RDONLY, "/proc/timer_list", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/kpagecount", "/sys/kernel/debug/*"),
		opening("filesystem/devices", "open a device of the host", unix.O_RDWR, "/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0", "/dev/loop-control", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/tty0", "/dev/userfaultfd"),
		opening("filesystem/shadow", "read the host's secrets", unix.O_RDONLY, "/etc/shadow", "/etc/gshadow", "/root/.bashrc", "/root/.profile"),
		opening("filesystem/sockets", "find a daemon's socket", unix.O_WRONLY, "/run/*/*.sock", "/run/*.sock", "/var/run/docker.sock").
			noControl("which daemons there are is the host's; network/socket-in-a-directory makes one").from("GHSA-27vp-2mmc-vmh3"),
		opening("filesystem/system-write", "open system files for writing", unix.O_WRONLY, "/etc/passwd", "/etc/ld.so.cache", "/usr/bin/env", "/bin/sh"),
		{ID: "filesystem/system-create", Says: "make a file in /usr, /etc, /lib, /var, /home, /dev", Want: "EROFS|EACCES|EPERM|ENOENT|EISDIR|EOPNOTSUPP", Attack: func([]string) error {
			return anyOf([]string{"/", "/usr", "/etc", "/lib", "/var", "/home", "/dev", "/run"}, tmpfile)
		}},
		hostFile("filesystem/host-file", "read a file of the host that anybody may read", func(p string) error { return reads(p) }),
		hostFile("filesystem/host-file-write", "write to a file of the host that anybody may write to", func(p string) error { return opens(p, unix.O_WRONLY) }),
		hostFile("filesystem/proc-self-root", "read it by way of /proc/self/root and /proc/self/cwd", func(p string) error {
			return anyOf([]string{"/proc/self/root" + p, "/proc/self/cwd/../../../../../.." + p, "/proc/thread-self/root" + p}, reads)
		}).from("CVE-2024-21626, CVE-2026-39861"),
		hostFile("filesystem/init-root", "read it by way of the init's root", func(p string) error {
			return reads(fmt.Sprintf("/proc/%d/root%s", os.Getppid(), p))
		}),
		hostFile("filesystem/hard-link", "link it to a place that is writable", func(p string) error {
			return unix.Link(p, filepath.Join(filepath.Dir(p), "link"))
		}),
		hostFile("filesystem/truncate", "cut it off by its path", func(p string) error { return unix.Truncate(p, 1) }),
		{
			ID: "filesystem/own-program", Says: "change the supervisor's program by /proc/*/exe", Ref: "CVE-2019-5736", Want: "EACCES|EPERM|EROFS|ETXTBSY|ENOENT; without exec-seals and own-ids: OK # only the exec bits; the content is sealed",
			Attack: func([]string) error {
				if err := unix.Chmod("/proc/self/exe", 0o644); err == nil {
					return unix.Chmod("/proc/self/exe", 0o755)
				}
				exes, err := filepath.Glob("/proc/[0-9]*/exe")
				if err != nil {
					return err
				}
				return anyOf(append(exes, "/proc/self/exe"), func(p string) error { return opens(p, unix.O_WRONLY) })
			},
		},
		{ID: "filesystem/setid", Says: "make a set-id file at home", Want: "EPERM", Attack: func([]string) error {
			p := filepath.Join(os.TempDir(), "setid")
			if err := os.WriteFile(p, nil, 0o700); err != nil {
				return err
			}
			return unix.Chmod(p, 0o4755)
		}},
		inMount("filesystem/granted-ro", "write to a directory that is let in read-only", false, "EROFS|EACCES", func(d string) error {
			return opens(filepath.Join(d, "file"), unix.O_WRONLY)
		}),
		inMount("filesystem/granted-time", "change the times of a file in it", false, "EROFS|EACCES|EPERM", func(d string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(d, "file"), []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0)
		}),
		inMount("filesystem/granted-setid", "make a set-id file where one may write", true, "EPERM", func(d string) error {
			f := filepath.Join(d, "mine")
			if err := os.WriteFile(f, nil, 0o700); err != nil {
				return err
			}
			return anyOf([]string{"u", "g"}, func(who string) error { return unix.Chmod(f, map[string]uint32{"u": 0o4755, "g": 0o2755}[who]) })
		}),
		inMount("filesystem/granted-device", "make a device there", true, "EPERM|EACCES", func(d string) error {
			return unix.Mknod(filepath.Join(d, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
		}),
		inMount("filesystem/granted-symlink", "follow a link out of it that leads to a file of the host", true, "ENOENT|EACCES", func(d string) error {
			return reads(filepath.Join(d, "out"))
		}),
		inMount("filesystem/granted-dotdot", "go up from it", true, "ENOENT|EACCES", func(d string) error {
			return reads(filepath.Join(d, "..", "secret"))
		}),
	}
}

func opens1(dir string, flags int) error {
	fd, err := unix.Open(dir, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func unsafeHandle() []byte {
	h := make([]byte, 136)
	h[0] = 128 // handle_bytes
	return h
}

// hostFile is a case about a file of the host that nothing protects but the sandbox.
func hostFile(id, says string, try func(string) error) Case {
	const text = "a file of the host\n"
	return Case{
		ID: id, Says: says, Want: hidden, OnHost: true,
		Attack: func(args []string) error { return try(args[0]) },
		Stage: func(s *stage) error {
			p := filepath.Join(s.dir, "secret")
			s.args = []string{p}
			return errors.Join(os.WriteFile(p, []byte(text), 0o666), os.Chmod(p, 0o666), os.Chmod(s.dir, 0o777))
		},
		Judge: func(s *stage, outcome string, _ *sandbox.Report) string {
			if b, err := os.ReadFile(s.args[0]); outcome != Through && (err != nil || string(b) != text) {
				return "the file has changed"
			}
			return outcome
		},
	}
}

// unmapped is what becomes of a mount, as root, from a file system without id-mapped mounts.
const unmapped = "; without idmapped-mounts: refused"

// inMount is a case about a directory of the host that was let in.
func inMount(id, says string, writable bool, want string, try func(string) error) Case {
	return Case{
		ID: id, Says: says, Want: want + unmapped, OnHost: true,
		Attack: func(args []string) error { return try(args[0]) },
		Stage: func(s *stage) error {
			d, secret := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "secret")
			s.args = []string{"/data"}
			if s.bare {
				s.args[0] = d
			}
			s.spec.Mounts = []rootfs.Mount{{Source: d, Target: "/data", Writable: writable}}
			return errors.Join(os.Mkdir(d, 0o755), os.WriteFile(secret, []byte("secret\n"), 0o644), os.WriteFile(filepath.Join(d, "file"), []byte("x"), 0o644),
				os.Symlink(secret, filepath.Join(d, "out")))
		},
	}
}
