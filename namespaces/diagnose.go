package namespaces

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Diagnose says why this host refuses namespaces and what would mend it, for
// the refusals that people meet. root is the file system to look at, "" for
// this host; tests give recorded ones.
func Diagnose(root string, cause error) (observed, remedy string) {
	read := func(p string) string {
		b, err := os.ReadFile(root + p)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	observed = cause.Error()
	said := func(p string) string { return fmt.Sprintf("%s; %s is %s", observed, p, read(p)) }
	refused := errors.Is(cause, unix.EPERM) || errors.Is(cause, unix.EACCES) || errors.Is(cause, unix.EINVAL)
	const (
		max      = "/proc/sys/user/max_user_namespaces"
		clone    = "/proc/sys/kernel/unprivileged_userns_clone"
		apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
	)
	switch {
	case read(max) == "0":
		return said(max), "sysctl -w user.max_user_namespaces=15000, or use --backend process"
	case refused && read(clone) == "0":
		return said(clone), "sysctl -w kernel.unprivileged_userns_clone=1 (Debian's switch), run as root, or use --backend process"
	case refused && read(apparmor) == "1":
		return said(apparmor), "Ubuntu restricts user namespaces to programs with an AppArmor profile: install one that allows userns for sandboxd, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
	case errors.Is(cause, unix.ENOSPC):
		return observed, "a limit on namespaces is reached; see /proc/sys/user/max_*_namespaces"
	case refused && strings.Contains(strings.ToLower(read("/proc/version")), "microsoft"):
		return observed, "WSL 1 has no namespaces: convert the distribution to WSL 2 (wsl --set-version NAME 2)"
	case refused && inContainer(read):
		return observed, "inside a container: it must be allowed to make namespaces and mounts, as with docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined, or use --backend process"
	}
	return observed, "run as root, or use --backend process"
}

// inContainer recognises docker, podman and other containers by what they leave or by a filter on this process.
func inContainer(read func(string) string) bool {
	return read("/.dockerenv") != "" || strings.Contains(read("/proc/self/status"), "Seccomp:\t2") ||
		strings.Contains(read("/proc/1/environ"), "container=") || strings.Contains(read("/proc/self/mountinfo"), " /proc/kcore ")
}
