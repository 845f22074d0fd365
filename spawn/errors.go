package spawn

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"sandboxd/spawn/plan"
)

// ErrBoot is wrapped by every start that failed because the actor died or
// misbehaved before its program ran.
var ErrBoot = errors.New("actor did not start")

// Gate says that a host cannot do something: what is missing, what was
// observed, and how to mend it.
type Gate struct {
	Feature  Feature
	Observed string // errno, file, version
	Remedy   string // one sentence; empty where there is none
}

func (g *Gate) Error() string {
	s := fmt.Sprintf("%s: %s", g.Feature, g.Observed)
	if g.Remedy != "" {
		s += " (" + g.Remedy + ")"
	}
	return s
}

// StepError is a kernel step that failed while an actor was being made.
type StepError struct {
	Step   plan.Kind
	Index  int
	Object string // the step in words: paths, numbers
	Errno  syscall.Errno
	Hint   string // the way out, where the backend knows better than the errno; "": by the errno
}

func (e *StepError) Error() string {
	s := fmt.Sprintf("%s: %v", e.Object, e.Errno)
	h := e.Hint
	if h == "" {
		h = e.hint()
	}
	if h != "" {
		s += " (" + h + ")"
	}
	return s
}

// Unwrap gives the errno, so that errors.Is(err, syscall.ENOENT) works.
func (e *StepError) Unwrap() error { return e.Errno }

// Program reports whether the step is the exec of the user's program, whose
// failure is the user's to mend: exit 127 or 126 rather than 125.
func (e *StepError) Program() bool { return e.Step == plan.Exec || e.Step == plan.ExecFD }

// hint is the way out, for the failures that people meet.
func (e *StepError) hint() string {
	is := func(k plan.Kind, errnos ...syscall.Errno) bool {
		return e.Step == k && slices.Contains(errnos, e.Errno)
	}
	switch {
	case is(plan.Exec, syscall.ENOENT):
		return "no such program in the sandbox; a dynamic program also needs its loader and libraries there"
	case is(plan.Exec, syscall.EACCES):
		return "the file is not executable for the sandboxed user, or lies below a directory that it may not enter"
	case is(plan.ExecFD, syscall.ENOENT):
		return "the loader of a dynamic program is not in the sandbox, or this is a script, which cannot be run from a descriptor"
	case is(plan.ExecFD, syscall.EACCES):
		return "no regular file, not executable for the sandboxed user, or on a file system mounted noexec"
	case is(plan.Exec, syscall.ENOEXEC), is(plan.ExecFD, syscall.ENOEXEC):
		return "not a program of this machine, or a script without #!"
	case is(plan.Exec, syscall.ENOMEM), is(plan.ExecFD, syscall.ENOMEM), is(plan.Fork, syscall.ENOMEM):
		return "the memory limit is too small to start the program; raise --memory"
	case is(plan.Fork, syscall.EAGAIN), is(0, syscall.EAGAIN):
		return "a limit on processes is reached; raise --pids-limit or the host's own limit"
	case is(0, syscall.EPERM, syscall.ENOSPC, syscall.EUSERS): // the clone itself
		return "the host refuses new namespaces; run `sandboxd doctor`"
	case is(plan.Mkdir, syscall.ENOSPC), is(plan.WriteFile, syscall.ENOSPC):
		return "the writable layer is too small for the sandbox's own directories; raise --disk or --disk-inodes"
	case is(plan.Mkdir, syscall.EROFS), is(plan.WriteFile, syscall.EROFS):
		return "the target lies in a read-only part of the root; choose one elsewhere, such as /mnt or /data"
	case is(plan.Mkdir, syscall.ENOTDIR), is(plan.WriteFile, syscall.ENOTDIR):
		return "a file where a directory belongs"
	case is(plan.Mkdir, syscall.ENOENT):
		return "a symbolic link to nowhere where a directory belongs"
	case is(plan.WriteFile, syscall.EISDIR):
		return "a directory where a file belongs"
	case is(plan.Attach, syscall.ENOTDIR, syscall.EINVAL):
		return "a file and a directory meet at this path"
	case is(plan.Attach, syscall.ELOOP):
		return "the root has a symbolic link where the sandbox mounts its own; replace it by a directory"
	case is(plan.Rlimit, syscall.EPERM):
		return "above this process's own hard limit, which only CAP_SYS_RESOURCE may raise"
	case is(plan.Chdir, syscall.ELOOP):
		return "the working directory is a link in /proc to something open, or links in a circle; name the directory itself"
	case is(plan.Chdir, syscall.EACCES):
		return "the sandboxed user may not enter the working directory"
	case is(plan.Chdir, syscall.ENOENT, syscall.ENOTDIR):
		return "the working directory does not exist in the sandbox; see --workdir and --mount"
	case is(plan.Idmap, syscall.EINVAL):
		return "its file system cannot be id-mapped; copy it to ext4, xfs or btrfs (or tmpfs, since Linux 6.3), or run as the owner instead of root"
	case strings.HasPrefix(e.Object, "fsmount") && strings.Contains(e.Object, `"proc"`) && e.Errno == syscall.EPERM:
		return "this host's /proc is partly covered, as in a container; run `sandboxd doctor`"
	}
	return ""
}
