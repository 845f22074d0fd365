package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup file system. Source: cgroups(7).
type hierarchy struct {
	controllers []string // v1 only; a named one is "name=systemd"
	unified     bool
	root        string // where it is mounted
	own         string // the directory there of the cgroup that we are in
}

// hierarchies lists what is mounted, each once. None is no error.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("bench: find cgroups: %w; is /proc mounted?", err)
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("bench: find cgroups: %w; the kernel may lack them", err)
	}
	var all []hierarchy
	for line := range strings.Lines(string(mounts)) {
		mount, super, _ := strings.Cut(line, " - ")
		m, s := strings.Fields(mount), strings.Fields(super)
		if len(m) < 5 || len(s) < 3 || s[0] != "cgroup" && s[0] != "cgroup2" {
			continue
		}
		h := hierarchy{unified: s[0] == "cgroup2", root: m[4]}
		if !h.unified {
			h.controllers = strings.Split(s[2], ",")
		}
		if path, ok := h.find(string(self)); ok {
			below, ok := strings.CutPrefix(path, strings.TrimSuffix(m[3], "/"))
			if ok && !strings.Contains(below, "..") && !slices.ContainsFunc(all, h.same) {
				h.own = filepath.Join(h.root, below)
				all = append(all, h)
			}
		}
	}
	return all, nil
}

// find gives our path in the hierarchy from its line of /proc/self/cgroup.
func (h hierarchy) find(self string) (string, bool) {
	for line := range strings.Lines(self) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 && (h.unified && f[0] == "0" || !h.unified && h.has(strings.Split(f[1], ",")[0])) {
			return f[2], true
		}
	}
	return "", false
}

func (h hierarchy) has(controller string) bool { return slices.Contains(h.controllers, controller) }

func (h hierarchy) same(o hierarchy) bool {
	return h.unified == o.unified && slices.Equal(h.controllers, o.controllers)
}

// limitFolders makes a folder of this name in which leaves can have memory,
// pids and cpu limits: keyed "memory", "pids", "cpu" for v1 and "unified" for
// v2. No existing cgroup is changed, so on a pure v2 host the folder is made in
// the nearest ancestor that already hands the three down.
func limitFolders(all []hierarchy, name string) (map[string]string, error) {
	found := map[string]string{}
	need := []string{"memory", "pids", "cpu"}
	var v2 *hierarchy
	for i, h := range all {
		if h.unified {
			v2 = &all[i]
		}
		for _, c := range need {
			if h.has(c) {
				found[c] = filepath.Join(h.own, name)
			}
		}
	}
	switch {
	case len(found) == len(need) && v2 != nil:
		found["unified"] = filepath.Join(v2.own, name) // entered by clone3, for its kill and its proof of being empty
	case len(found) == len(need):
	case v2 == nil:
		return nil, errors.New("no cgroup hierarchy with memory, pids and cpu is mounted; mount /sys/fs/cgroup")
	default:
		dir := v2.own
		for !handsDown(dir, need) {
			if dir == v2.root {
				return nil, fmt.Errorf("no cgroup from %s up hands memory, pids and cpu down; start under systemd-run --scope -p Delegate=yes", v2.own)
			}
			dir = filepath.Dir(dir)
		}
		found = map[string]string{"unified": filepath.Join(dir, name)}
	}
	for _, dir := range found {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%w; run as root, or in a cgroup that is delegated to this user", err)
		}
	}
	if dir := found["unified"]; len(found) == 1 {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0); err != nil {
			return nil, fmt.Errorf("hand limits down from our own folder: %w", err)
		}
	}
	return found, nil
}

func handsDown(dir string, need []string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	have := strings.Fields(string(text))
	return err == nil && !slices.ContainsFunc(need, func(c string) bool { return !slices.Contains(have, c) })
}

// sweepCgroups removes the folders of this name wherever somebody may have made
// them for us: in our own cgroup, above it, or at the top.
func sweepCgroups(all []hierarchy, name string) error {
	var errs []error
	for _, h := range all {
		for dir := h.own; ; dir = filepath.Dir(dir) {
			errs = append(errs, removeCgroup(filepath.Join(dir, name)))
			if dir == h.root || len(dir) <= len(h.root) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// removeCgroup removes a folder of ours with all below it, and kills what still
// runs there.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		var last error
		var dirs []string
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what vanishes meanwhile is gone, which is the aim
		})
		if err != nil {
			return err
		}
		for _, d := range slices.Backward(dirs) {
			if err := unix.Rmdir(d); err != nil && err != unix.ENOENT {
				last = &fs.PathError{Op: "rmdir", Path: d, Err: err}
				killAll(filepath.Join(d, "cgroup.procs"))
			}
		}
		if last == nil || time.Now().After(deadline) {
			return last
		}
	}
}

// killAll kills what a cgroup of ours lists; a failure shows as a cgroup that
// cannot be removed.
func killAll(procs string) {
	text, _ := os.ReadFile(procs)
	for f := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
