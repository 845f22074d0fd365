package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/landlock"
	"sandboxd/namespaces/seccomp"
	"sandboxd/sandbox/cgroup"
)

func replaceEnv(env []string, key, value string) []string {
	return append(slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") }), key+"="+value)
}

// inspect runs when the program's process is confined and has not yet executed
// anything of the program's: what /proc says of it now is what holds.
func (a *Process) inspect(pid int, listener *os.File) error {
	if listener != nil {
		fd, err := unix.FcntlInt(listener.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		listener.Close()
		if err != nil {
			return fmt.Errorf("seccomp listener: %w", err)
		}
		if a.trap, err = seccomp.NewListener(fd); err != nil {
			return err
		}
	}
	if !a.res.spec.ReadBack {
		return nil
	}
	enforced, err := readBack(pid, a.res, a.leaf)
	if err != nil {
		return fmt.Errorf("read back confinement: %w", err)
	}
	a.report.Isolation.Enforced = enforced
	return nil
}

// namespaceNames maps /proc/PID/ns entries to the words of reports.
var namespaceNames = [][2]string{
	{"user", "userns"},
	{"pid", "pidns"},
	{"mnt", "mountns"},
	{"net", "netns"},
	{"uts", "utsns"},
	{"ipc", "ipcns"},
	{"cgroup", "cgroupns"},
	{"time_for_children", "timens"},
}

func readBack(pid int, r *resolved, leaf *cgroup.Leaf) ([]string, error) {
	proc := "/proc/" + strconv.Itoa(pid)
	var held []string
	for _, ns := range namespaceNames {
		theirs, err := os.Readlink(proc + "/ns/" + ns[0])
		if errors.Is(err, fs.ErrPermission) && !r.namespaced() {
			break // an undumpable process of our own user does not show them, and it has none
		}
		if err != nil {
			return nil, err
		}
		if ours, err := os.Readlink("/proc/self/ns/" + ns[0]); err == nil && ours != theirs {
			held = append(held, ns[1])
		}
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return nil, err
	}
	field := func(key string) string {
		_, rest, _ := bytes.Cut(status, []byte("\n"+key+":"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		return strings.TrimSpace(string(line))
	}
	if field("NoNewPrivs") == "1" {
		held = append(held, "no-new-privs")
	}
	none := true
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		none = none && field(set) != "" && strings.Trim(field(set), "0") == ""
	}
	if none {
		held = append(held, "no-capabilities")
	}
	if field("Seccomp") == "2" {
		held = append(held, "seccomp")
	}
	if uid := strings.Fields(field("Uid")); len(uid) > 1 && uid[1] != strconv.Itoa(os.Geteuid()) {
		held = append(held, "own-user-id")
	}
	if r.request.Landlock { // the kernel shows no domain in /proc; the step's success is all there is to see
		abi, _ := landlock.ABI()
		held = append(held, fmt.Sprintf("landlock(abi %d)", abi))
	}
	if r.namespaced() {
		mounts, err := os.ReadFile(proc + "/mountinfo")
		if err != nil {
			return nil, err
		}
		readOnly := false
		for line := range strings.Lines(string(mounts)) { // of several on top of each other, the last is seen
			if f := strings.Fields(line); len(f) > 5 && f[4] == "/" {
				readOnly = strings.HasPrefix(f[5], "ro")
			}
		}
		if readOnly {
			held = append(held, "read-only-root")
		}
	}
	return append(held, r.limitsHeld(pid, leaf)...), nil
}

// limitsHeld names the limits that the kernel shows for the process, with the
// values that were asked for. One that it does not show is missing.
func (r *resolved) limitsHeld(pid int, leaf *cgroup.Leaf) (held []string) {
	check := func(name string, ok bool) {
		if ok {
			held = append(held, name)
		} else {
			r.missing = append(r.missing, Missing{name, "it was set, but the kernel does not show it for the program"})
		}
	}
	if leaf != nil {
		in, err := leaf.Holds(pid)
		got, err2 := leaf.Limits()
		if errors.Join(err, err2) != nil {
			in = 0
		}
		for _, l := range []struct {
			name      string
			c         cgroup.Controller
			want, got int64
		}{
			{"memory", cgroup.Memory, r.cgroup.Memory, got.Memory},
			{"pids", cgroup.PIDs, r.onHost(r.cgroup.PIDs), got.PIDs},
			{"cpus", cgroup.CPU, r.cgroup.CPUMilli, got.CPUMilli},
		} {
			if l.want > 0 { // the kernel rounds down
				check(l.name, in&l.c != 0 && l.got > 0 && l.got <= l.want)
			}
		}
	}
	if r.foreign() { // the others are that kernel's to hold, see guest
		return held
	}
	proc := "/proc/" + strconv.Itoa(pid)
	limits, _ := os.ReadFile(proc + "/limits") // what cannot be read is not shown
	for _, l := range r.request.Rlimits {
		var name, label string
		switch {
		case l.Resource == unix.RLIMIT_NOFILE:
			name, label = "nofile", "Max open files"
		case l.Resource == unix.RLIMIT_FSIZE:
			name, label = "file-size", "Max file size"
		case l.Resource == unix.RLIMIT_NPROC && r.cgroup.PIDs == 0 && r.limits.PIDs > 0:
			name, label = "pids", "Max processes"
		default:
			continue
		}
		_, rest, _ := strings.Cut(string(limits), label)
		f := strings.Fields(rest)
		check(name, len(f) > 1 && f[0] == rlim(l.Soft) && f[1] == rlim(l.Hard))
	}
	if r.namespaced() && r.limits.Disk > 0 && !r.lacks("disk") {
		var st unix.Statfs_t
		err := unix.Statfs(proc+"/root/tmp", &st) // all that is writable is on one superblock
		over := int64(st.Blocks)*st.Bsize - r.limits.Disk
		check("disk", err == nil && st.Type == unix.TMPFS_MAGIC && st.Blocks > 0 && over < st.Bsize &&
			(r.limits.DiskInodes == 0 || int64(st.Files) == r.limits.DiskInodes))
	}
	return held
}

// guest names what a kernel of the actor's own was told to hold, and says that it does. The host cannot look.
func (r *resolved) guest() (held []string) {
	held = []string{"seccomp", "no-new-privs", "no-capabilities"}
	if r.limits.PIDs > 0 {
		held = append(held, "pids")
	}
	for _, l := range r.request.Rlimits {
		if name := ulimitName(l.Resource); name != "nproc" && name != "core" {
			held = append(held, "ulimit "+name)
		}
	}
	return held
}

// onHost is a limit of the host's kernel, 0 where it is a guest's.
func (r *resolved) onHost(limit int64) int64 {
	if r.foreign() {
		return 0
	}
	return limit
}

// watchTrap waits for a forbidden system call and ends the actor for it. One
// that it could not hear of would leave the program asleep for ever.
func watchTrap(ctx context.Context, l *seccomp.Listener, end func(Reason, string)) {
	switch n, err := l.Recv(ctx); {
	case err == nil:
		end(Syscall, fmt.Sprintf("forbidden system call %s", n.Syscall))
	case !errors.Is(err, io.EOF) && ctx.Err() == nil:
		end(Lost, "nobody would hear of a forbidden system call: "+err.Error())
	}
}
