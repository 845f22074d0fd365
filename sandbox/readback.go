package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/landlock"
	"sandboxd/namespaces/seccomp"
)

func replaceEnv(env []string, key, value string) []string {
	return append(slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") }), key+"="+value)
}

// inspect runs when the program's process is confined and has not yet executed
// anything of the program's: what /proc says of it now is what holds.
func (a *Actor) inspect(pid int, listener *os.File) error {
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
	enforced, err := readBack(pid, a.res)
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

func readBack(pid int, r *resolved) ([]string, error) {
	proc := "/proc/" + strconv.Itoa(pid)
	var held []string
	for _, ns := range namespaceNames {
		theirs, err := os.Readlink(proc + "/ns/" + ns[0])
		if errors.Is(err, fs.ErrPermission) && !r.native() {
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
		none = none && strings.Trim(field(set), "0") == ""
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
	if r.native() {
		mounts, err := os.ReadFile(proc + "/mountinfo")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); len(f) > 5 && f[4] == "/" && strings.HasPrefix(f[5], "ro") {
				held = append(held, "read-only-root")
			}
		}
	}
	return append(held, r.limitsHeld(proc)...), nil
}

// limitsHeld names the limits that the kernel shows for the actor.
func (r *resolved) limitsHeld(proc string) []string {
	var held []string
	cg, err := os.ReadFile(proc + "/cgroup")
	if err == nil {
		for _, c := range []struct {
			on         bool
			word, name string
		}{{r.cgroup.Memory > 0, "memory", "memory"}, {r.cgroup.PIDs > 0, "pids", "pids"}, {r.cgroup.CPUMilli > 0, "cpu", "cpus"}} {
			if c.on && inCgroup(string(cg), c.word) {
				held = append(held, c.name)
			}
		}
	}
	limits, err := os.ReadFile(proc + "/limits")
	if err == nil {
		for _, l := range [][2]string{{"Max open files", "nofile"}, {"Max file size", "file-size"}} {
			_, rest, found := strings.Cut(string(limits), l[0])
			if f := strings.Fields(rest); found && len(f) > 1 && f[1] != "unlimited" {
				held = append(held, l[1])
			}
		}
	}
	if r.cgroup.PIDs == 0 && r.limits.PIDs > 0 {
		held = append(held, "pids")
	}
	if r.request.Scratch.Bytes > 0 && r.limits.Disk > 0 {
		held = append(held, "disk")
	}
	return held
}

// inCgroup reports whether /proc/PID/cgroup puts a process in a cgroup of
// ours: for v1 the controller's own line, for v2 the unified one.
func inCgroup(cgroups, controller string) bool {
	for line := range strings.Lines(cgroups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && (f[1] == "" || slices.Contains(strings.Split(f[1], ","), controller)) && strings.Contains(f[2], "/sandboxd-") {
			return true
		}
	}
	return false
}

// watchTrap waits for a forbidden system call and ends the actor for it.
func watchTrap(ctx context.Context, l *seccomp.Listener, end func(Reason, string)) {
	if n, err := l.Recv(ctx); err == nil {
		end(Syscall, fmt.Sprintf("forbidden system call %s", n.Syscall))
	}
}
