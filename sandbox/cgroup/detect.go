package cgroup

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what Detect found: the hierarchies in reach and the caller's own
// cgroup in each. Safe for concurrent use.
type Host struct {
	v1 []hierarchy
	v2 *hierarchy

	// The two calls whose effect plain files cannot imitate in a test.
	mkdir, rmdir func(dir int, path string) error
}

// hierarchy is one mounted cgroup file system.
type hierarchy struct {
	has  Controller // v1 only: what it was mounted with
	root string     // top of what is mounted
	own  string     // directory of the caller's own cgroup
}

// Detect reads /proc/self/mountinfo and /proc/self/cgroup, once and nothing
// else. A host without any cgroup is not an error; Has tells.
func Detect() (*Host, error) {
	var text [2]string
	for i, name := range []string{"mountinfo", "cgroup"} {
		var err error
		if text[i], err = nodeAt("/proc/self", false).read(name, 16<<20); err != nil {
			return nil, fmt.Errorf("cgroup: detect the hierarchies: %w; is /proc mounted?", err)
		}
	}
	h := parse(text[0], text[1])
	if h.v2 != nil {
		if _, left := asides.Load(h.v2base()); left {
			h.v2.own = h.v2base() // where we shall be again
		}
	}
	return h, nil
}

// mkdir makes a cgroup that its owner may enter, whatever the caller's umask.
// Root may enter any.
func mkdir(dir int, path string) error {
	err := unix.Mkdirat(dir, path, 0o755)
	if err == nil && unix.Geteuid() != 0 {
		err = unix.Fchmodat(dir, path, 0o755, 0)
	}
	return err
}

func parse(mountinfo, self string) *Host {
	h := &Host{
		mkdir: mkdir,
		rmdir: func(dir int, path string) error { return unix.Unlinkat(dir, path, unix.AT_REMOVEDIR) },
	}
	for line := range strings.Lines(mountinfo) {
		mount, super, ok := strings.Cut(line, " - cgroup")
		if !ok {
			continue
		}
		// 35 31 0:32 /root /mount/point options… - cgroup[2] source super,options
		m, s := strings.Fields(mount), strings.Fields(super)
		unified := strings.HasPrefix(super, "2 ")
		if len(m) < 6 || len(s) < 2 || !unified && super[0] != ' ' {
			continue
		}
		hier := hierarchy{root: unescape.Replace(m[4])}
		options := ""
		if !unified {
			options = s[len(s)-1]
			hier.has = parseV1(options)
		}
		if hier.own, ok = ownDir(self, options, unescape.Replace(m[3]), hier.root); !ok {
			continue
		}
		switch {
		case unified && h.v2 == nil:
			h.v2 = &hier
		case !unified && hier.has&^h.v1Has() != 0:
			h.v1 = append(h.v1, hier)
		}
	}
	return h
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func parseV1(options string) (c Controller) {
	for word := range strings.SplitSeq(options, ",") {
		for _, n := range controllerNames {
			if n.v1 == word {
				c |= n.bit
			}
		}
	}
	return c
}

// ownDir finds where the line of /proc/self/cgroup that belongs to a mount is
// in that mount, which shows the hierarchy from root down. It is not there when
// a namespace or a bind mount hides it.
func ownDir(self, options, root, mountpoint string) (string, bool) {
	for line := range strings.Lines(self) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 || !sameHierarchy(f[1], options) {
			continue
		}
		if strings.HasPrefix(f[2], "/..") || strings.HasPrefix(root, "/..") {
			return "", false
		}
		below, ok := strings.CutPrefix(f[2], strings.TrimSuffix(root, "/"))
		if !ok || below != "" && below[0] != '/' {
			return "", false
		}
		return path.Join(mountpoint, below), true
	}
	return "", false
}

// sameHierarchy matches the controllers of /proc/self/cgroup with mount options.
func sameHierarchy(controllers, options string) bool {
	if controllers == "" || options == "" {
		return controllers == options
	}
	first, _, _ := strings.Cut(controllers, ",")
	for word := range strings.SplitSeq(options, ",") {
		if word == first {
			return true
		}
	}
	return false
}

func (h *Host) v1Has() (c Controller) {
	for _, hier := range h.v1 {
		c |= hier.has
	}
	return c
}

// Mode names the layout: "v1", "v2", "hybrid" (controllers on v1 beside a v2
// mount) or "none".
func (h *Host) Mode() string {
	switch v1 := h.v1Has() != 0; {
	case v1 && h.v2 != nil:
		return "hybrid"
	case v1:
		return "v1"
	case h.v2 != nil:
		return "v2"
	}
	return "none"
}

// Has reports whether leaves can be given each controller of c: nil, or an
// [*Unavailable] that says why not and what to do. It reads and never writes.
func (h *Host) Has(c Controller) error {
	_, err := h.targets(c)
	return err
}

// V1 reports whether a leaf has one of c by a v1 hierarchy.
func (h *Host) V1(c Controller) bool { return h.v1Has()&c != 0 }

// Ways tells how a process would enter a leaf with limits, see [Leaf.Join]: by
// how many v1 tasks files, and whether by a v2 directory. It writes nothing.
func (h *Host) Ways(limits Limits) (tasks int, unified bool) {
	all, _ := h.targets(limits.needs()) // a leaf that cannot be made has none
	for _, t := range all {
		if t.unified {
			unified = true
		} else {
			tasks++
		}
	}
	return tasks, unified
}

// target is a directory in which a lease folder is or can be made.
type target struct {
	dir     string
	unified bool
	has     Controller // what leaves below it can use
	move    bool       // we ourselves must leave dir first
	enable  Controller // what dir must first be told to hand down
}

// targets chooses, for a leaf with these needs, the folders it is made in: each
// v1 hierarchy that is needed, and a v2 directory wherever one can be had.
func (h *Host) targets(need Controller) ([]target, error) {
	var all []target
	v2, err := h.unified(need &^ h.v1Has())
	switch {
	case err == nil:
		all = append(all, v2)
		need &^= CPUTime | Unified // any v2 directory has these
		need &^= v2.has &^ h.v1Has()
	case need&^h.v1Has() != 0:
		return nil, err
	}
	for _, hier := range h.v1 {
		if hier.has&need == 0 {
			continue
		}
		if err := writable(hier.own); err != nil {
			return nil, &Unavailable{hier.has & need, hier.own + " is not writable", remedyFor(err), err}
		}
		all = append(all, target{dir: hier.own, has: hier.has})
		need &^= hier.has
	}
	if len(all) == 0 {
		return nil, err // nothing is limited, and there is no v2 directory
	}
	return all, nil
}

func writable(dir string) error {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

func remedyFor(err error) string {
	if errors.Is(err, unix.EROFS) {
		return "the cgroup mount is read-only, as in most containers: start the container with a writable /sys/fs/cgroup"
	}
	return "run as root, or start the program in a cgroup that an administrator has given to this user"
}
