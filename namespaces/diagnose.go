package namespaces

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host is a file system to look at: "" is this host's, tests have recorded ones.
type host string

// read is "" where there is no such file.
func (h host) read(p string) string {
	b, err := os.ReadFile(string(h) + p)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (h host) has(p string) bool {
	_, err := os.Lstat(string(h) + p)
	return err == nil
}

// Diagnose says why this host refuses namespaces and what would mend it, for
// the refusals that people meet. root is the file system to look at, "" for
// this host.
func Diagnose(root string, cause error) (observed, remedy string) {
	h := host(root)
	observed = cause.Error()
	said := func(p string) string { return fmt.Sprintf("%s; %s is %s", observed, p, h.read(p)) }
	refused := errors.Is(cause, unix.EPERM) || errors.Is(cause, unix.EACCES) || errors.Is(cause, unix.EINVAL)
	const (
		clone    = "/proc/sys/kernel/unprivileged_userns_clone"
		apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	)
	full := h.full()
	place := Place(root)
	switch {
	case place == wsl1:
		return observed + "; this is " + place, "convert the distribution: wsl --set-version NAME 2"
	case place == gvisor:
		return observed + "; this is " + place, "run on the host itself; gVisor's kernel lacks mounts and filters that sandboxd needs"
	case errors.Is(cause, unix.ENOSYS):
		return observed + "; the kernel is " + h.release(), "boot a kernel of 5.12 or later; if it is one, a seccomp filter around this process hides the call"
	case (refused || errors.Is(cause, unix.ENOSPC)) && len(full) > 0:
		return said("/proc/sys/user/" + full[0]), "sysctl -w user." + full[0] + "=15000, or use --backend process"
	case errors.Is(cause, unix.ENOSPC):
		return observed, "a limit on namespaces is reached; see /proc/sys/user/max_*_namespaces, and end what holds them"
	case refused && h.has("/proc/self/ns") && !h.has("/proc/self/ns/user"):
		return observed + "; there is no /proc/self/ns/user", "boot a kernel with CONFIG_USER_NS, or use --backend process"
	case refused && place == filtered:
		return observed + "; this is " + place, "the filter must let namespaces and mounts be made (in a systemd unit: RestrictNamespaces=no, and SystemCallFilter= with @mount); or use --backend process"
	case refused && place != "" && place != wsl2:
		return observed + "; this is " + place, "it must be allowed to make namespaces and mounts: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined; or use --backend process"
	case refused && !h.privileged() && h.read(clone) == "0":
		return said(clone), "sysctl -w kernel.unprivileged_userns_clone=1 (Debian's switch), run as root, or use --backend process"
	case refused && !h.privileged() && h.read(apparmor) == "1":
		return said(apparmor), "Ubuntu restricts user namespaces to programs with an AppArmor profile: install one that allows userns for sandboxd, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
	case refused && h.chrooted():
		return observed + "; this process is in a chroot", "the kernel makes no user namespace in a chroot: use pivot_root or a mount namespace instead, or --backend process"
	case h.privileged():
		return observed, "use --backend process"
	}
	return observed, "run as root, or use --backend process"
}

// The places that Place names.
const (
	wsl1     = "WSL 1"
	wsl2     = "WSL 2"
	gvisor   = "gVisor"
	filtered = "a process with a seccomp filter"
)

// Place names what this host is if it is not a plain one: WSL 1, WSL 2, gVisor,
// "a container (lxc)" and the like; "" otherwise. root is as in Diagnose.
func Place(root string) string {
	h := host(root)
	version := h.read("/proc/version")
	switch {
	case strings.Contains(version, "WSL2"):
		return wsl2
	case strings.Contains(version, "Microsoft"): // WSL 2 writes it small
		return wsl1
	case strings.Contains(version, "gVisor"):
		return gvisor
	case h.has("/.dockerenv"):
		return "a docker container (/.dockerenv exists)"
	case h.has("/run/.containerenv"):
		return "a podman container (/run/.containerenv exists)"
	}
	for kv := range strings.SplitSeq(h.read("/proc/1/environ"), "\x00") {
		if name, ok := strings.CutPrefix(kv, "container="); ok && name != "" {
			return "a container (" + name + ")"
		}
	}
	if name := h.read("/run/systemd/container"); name != "" {
		return "a container (" + name + ")"
	}
	for line := range strings.Lines(h.read("/proc/self/mountinfo")) { // runtimes cover these
		if f := strings.Fields(line); len(f) > 4 && (f[4] == "/proc/kcore" || f[4] == "/proc/timer_list") {
			return "a container"
		}
	}
	if h.status("Seccomp") == "2" {
		return filtered
	}
	return ""
}

// full are the limits on namespaces that allow none.
func (h host) full() (names []string) {
	for _, kind := range []string{"user", "pid", "mnt", "net", "uts", "ipc", "cgroup"} {
		if name := "max_" + kind + "_namespaces"; h.read("/proc/sys/user/"+name) == "0" {
			names = append(names, name)
		}
	}
	return names
}

// status is a field of /proc/self/status.
func (h host) status(key string) string {
	for line := range strings.Lines(h.read("/proc/self/status")) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (h host) privileged() bool {
	caps, err := strconv.ParseUint(h.status("CapEff"), 16, 64)
	return err == nil && caps&(1<<unix.CAP_SYS_ADMIN) != 0
}

// chrooted reports whether no mount is this process's root.
func (h host) chrooted() bool {
	mounts := h.read("/proc/self/mountinfo")
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return false
		}
	}
	return mounts != ""
}

func (h host) release() string {
	f := strings.Fields(h.read("/proc/version")) // Linux version RELEASE …
	if len(f) < 3 {
		return "unknown"
	}
	return f[2]
}
