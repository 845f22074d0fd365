package vmrun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/vm/guest"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroups mounts control groups in one of the layouts that hosts have: v2
// alone with every controller, v1 alone, or both as systemd's hybrid has them.
func cgroups(layout string) error {
	if layout == cgroupV2 {
		if err := guest.MountAt("cgroup2", cgroupRoot, "cgroup2", guest.Safe, "nsdelegate,memory_recursiveprot"); err != nil {
			return err
		}
		return enableAll(cgroupRoot)
	}
	if err := guest.MountAt("tmpfs", cgroupRoot, "tmpfs", guest.Safe, "mode=755"); err != nil {
		return err
	}
	// Controllers that systemd and docker mount together, with a link for each.
	together := map[string]string{"cpu": "cpu,cpuacct", "cpuacct": "", "net_cls": "net_cls,net_prio", "net_prio": ""}
	b, err := os.ReadFile("/proc/cgroups") // name, hierarchy, number of groups, enabled
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) != 4 || f[3] != "1" || f[0][0] == '#' {
			continue
		}
		name := f[0]
		if t, ok := together[name]; ok {
			name = t
		}
		// A newer kernel may have a controller for v2 only.
		if name != "" {
			err := guest.MountAt("cgroup", filepath.Join(cgroupRoot, name), "cgroup", guest.Safe, name)
			for alias := range strings.SplitSeq(name, ",") {
				if err == nil && alias != name {
					err = os.Symlink(name, filepath.Join(cgroupRoot, alias))
				}
			}
			if err != nil && !errors.Is(err, unix.EINVAL) {
				return err
			}
		}
	}
	if layout == cgroupHybrid {
		return guest.MountAt("cgroup2", filepath.Join(cgroupRoot, "unified"), "cgroup2", guest.Safe, "nsdelegate")
	}
	return nil
}

// enableAll hands every controller of a v2 cgroup to its children.
func enableAll(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for c := range strings.FieldsSeq(string(b)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
			return fmt.Errorf("enable controller %s in %s: %w", c, dir, err)
		}
	}
	return nil
}

// enter moves us, so that the program begins there, into the cgroup that it is
// to have, and says how to get back: a process of v2 lives in a leaf.
// The ordinary user's is delegated as systemd delegates: see "Delegation" in
// Documentation/admin-guide/cgroup-v2.rst.
func enter(j *job) (leave func() error, err error) {
	if j.Cgroup != cgroupV2 {
		return func() error { return nil }, nil
	}
	leaf := filepath.Join(cgroupRoot, "root", "session")
	if j.User {
		leaf = filepath.Join(cgroupRoot, "user", "session")
	}
	parent := filepath.Dir(leaf)
	if err := os.Mkdir(parent, 0o755); err != nil {
		return nil, err
	}
	if err := enableAll(parent); err != nil {
		return nil, err
	}
	if err := os.Mkdir(leaf, 0o755); err != nil {
		return nil, err
	}
	if j.User {
		files := []string{""}
		b, err := os.ReadFile("/sys/kernel/cgroup/delegate")
		if err != nil {
			return nil, err
		}
		files = append(files, strings.Fields(string(b))...)
		for _, dir := range []string{parent, leaf} {
			for _, f := range files {
				if err := os.Chown(filepath.Join(dir, f), ordinary, ordinary); err != nil && !errors.Is(err, os.ErrNotExist) {
					return nil, err
				}
			}
		}
	}
	move := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err := move(leaf); err != nil {
		return nil, err
	}
	// The root cgroup alone may hold processes beside children.
	return func() error { return move(cgroupRoot) }, nil
}
