package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	folderPrefix     = "sandboxd-"
	supervisorPrefix = "sandboxd-supervisor-"

	scopeRemedy = "run under `systemd-run --user --scope -p Delegate=yes …` (as root without --user), or as the only process of a cgroup that this user owns"
)

// unified chooses the v2 directory for a leaf, before anything is written. A
// v2 cgroup that hands controllers down may hold no process itself, save the
// true root, so controllers cannot simply be had below our own cgroup:
//
//  1. needing none: below our own cgroup;
//  2. we moved aside from it (see [Tree]): below it; or a supervisor above us
//     moved us: below the parent;
//  3. our own cgroup is the root: below it;
//  4. our own cgroup is delegated and holds only us and what we started, such as
//     a launcher: below it, after all of us have moved aside into a leaf;
//  5. as root, when the host's root hands them down: below that.
func (h *Host) unified(need Controller) (target, error) {
	if h.v2 == nil {
		if need == 0 {
			need = Unified
		}
		return target{}, &Unavailable{
			Controller: need,
			Observed:   "no mounted hierarchy that has it shows the caller's own cgroup",
			Remedy:     "mount it: `mount -t cgroup2 none /sys/fs/cgroup`, or see cgroups(7) for v1",
		}
	}
	own := h.v2base()
	_, left := asides.Load(own)
	left = left || own != h.v2.own
	if need &= v2Controllers; need == 0 {
		if err := writable(own); err != nil {
			return target{}, &Unavailable{Unified, own + " is not writable", remedyFor(err), err}
		}
		return target{dir: own, unified: true, has: CPUTime | Unified}, nil
	}
	if left || isRoot(own) {
		return handsDown(own, need)
	}
	why := notDelegated(own, h.v2.root)
	if why == "" {
		why = notAlone(own)
	}
	if why == "" {
		t, err := handsDown(own, need)
		t.move = true
		return t, err
	}
	if unix.Geteuid() == 0 && own != h.v2.root {
		if t, err := handsDown(h.v2.root, need); err == nil && (isRoot(h.v2.root) || t.enable == 0) {
			return t, nil
		}
		why += ", and " + h.v2.root + " does not hand these controllers down"
	}
	return target{}, &Unavailable{Controller: need, Observed: why, Remedy: scopeRemedy}
}

// v2base is our own v2 cgroup, or its parent where a supervisor moved us aside.
func (h *Host) v2base() string {
	if strings.HasPrefix(path.Base(h.v2.own), supervisorPrefix) {
		return path.Dir(h.v2.own)
	}
	return h.v2.own
}

// handsDown checks that dir has the controllers, and tells what it must be told
// to give to cgroups below it.
func handsDown(dir string, need Controller) (target, error) {
	n := nodeAt(dir, true)
	got, err := n.read("cgroup.controllers", maxFile)
	if err != nil {
		return target{}, &Unavailable{need, "cannot tell the controllers of " + dir, scopeRemedy, err}
	}
	has := parseV2(got)
	if lack := need &^ has; lack != 0 {
		return target{}, &Unavailable{
			Controller: lack,
			Observed:   fmt.Sprintf("%s was given only %q", dir, strings.TrimSpace(got)),
			Remedy:     "have the parent hand it down: for user sessions, `Delegate=cpu io memory pids` in a drop-in of user@.service",
		}
	}
	got, err = n.read("cgroup.subtree_control", maxFile)
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, dir+"/cgroup.subtree_control", unix.W_OK, unix.AT_EACCESS)
	}
	if err == nil {
		err = writable(dir)
	}
	if err != nil {
		return target{}, &Unavailable{need, dir + " is not ours to divide", scopeRemedy, err}
	}
	on := parseV2(got)
	enable := has &^ on
	if isRoot(dir) {
		enable &= need // the host's own: touch no more than we must
	}
	return target{dir: dir, unified: true, has: on | enable | CPUTime | Unified, enable: enable}, nil
}

// isRoot tells the true root, which has no events of its own.
func isRoot(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir+"/cgroup.events", &st) == unix.ENOENT
}

// notDelegated says why dir is someone else's to divide, or "". An ordinary
// user may write there only if it was given to him. Root may write anywhere, so
// it goes by what systemd noted on the directory or one above, and takes the
// top of a cgroup namespace as its own.
func notDelegated(dir, root string) string {
	if unix.Geteuid() != 0 {
		for _, file := range []string{"", "/cgroup.procs", "/cgroup.subtree_control"} {
			if err := unix.Faccessat(unix.AT_FDCWD, dir+file, unix.W_OK, unix.AT_EACCESS); err != nil {
				return fmt.Sprintf("%s%s is not writable for uid %d (%v)", dir, file, unix.Geteuid(), err)
			}
		}
		return ""
	}
	for at := dir; at != root; at = path.Dir(at) {
		for _, attr := range []string{"user.delegate", "trusted.delegate"} {
			var value [4]byte
			if n, err := unix.Getxattr(at, attr, value[:]); err == nil && string(value[:n]) == "1" {
				return ""
			}
		}
		if at == "/" {
			break
		}
	}
	if dir == root {
		return ""
	}
	return dir + " is not marked as delegated to us"
}

// notAlone says who else is in dir, or "".
func notAlone(dir string) string {
	pids, err := nodeAt(dir, true).procs()
	if err != nil {
		return err.Error()
	}
	for _, pid := range pids {
		if !startedByUs(pid) {
			return fmt.Sprintf("process %d is in our own cgroup %s too, and one that hands controllers down must be empty", pid, dir)
		}
	}
	return ""
}

// startedByUs tells whether pid is this process or descends from it; also
// whether it is dead meanwhile, and in nobody's way.
func startedByUs(pid int) bool {
	for pid != os.Getpid() {
		if pid == 0 { // outside of our pid namespace, or above all
			return false
		}
		stat, err := nodeAt("/proc/"+strconv.Itoa(pid), false).read("stat", maxFile)
		if err != nil {
			return unix.Kill(pid, 0) == unix.ESRCH // a /proc may hide the living
		}
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name before may hold anything
		if len(f) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(f[1]); err != nil {
			return false
		}
	}
	return true
}

// moveAside leaves dir, with everyone whom we started there, for a leaf below
// it, so that dir can hand controllers down. Done once per process; this is
// where the slow pid writes happen. After an error, moveBack puts all right.
func (h *Host) moveAside(dir, lease string) error {
	aside, own := nodeAt(dir+"/"+supervisorPrefix+lease, true), nodeAt(dir, true)
	if err := h.mkdir(aside.dir, aside.path); err != nil {
		return fmt.Errorf("cgroup: make %s to move ourselves into: %w", aside.abs, err)
	}
	if err := aside.write("cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("cgroup: move ourselves aside: %w", err)
	}
	return h.fetch(own, aside)
}

// fetch moves whom we started from our own cgroup aside. One who forks
// meanwhile leaves a child behind: it looks until nobody is new.
func (h *Host) fetch(own, aside node) error {
	for moved := map[int]bool{os.Getpid(): true}; ; {
		pids, err := own.procs()
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return moved[pid] || !startedByUs(pid) })
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			moved[pid] = true
			if err := aside.write("cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("cgroup: move process %d, which we started, aside: %w", pid, err)
			}
		}
	}
}

// handDown enables controllers for what is below dir. Where we moved aside it
// is patient: a process that ends can be moved no more and, a moment later, is
// listed no more, but keeps dir busy until it has left.
func (h *Host) handDown(want target, lease string) error {
	own, aside := nodeAt(want.dir, true), nodeAt(want.dir+"/"+supervisorPrefix+lease, true)
	for deadline := time.Now().Add(removeWait); ; time.Sleep(time.Millisecond) {
		err := own.write("cgroup.subtree_control", switchV2("+", want.enable))
		if !errors.Is(err, unix.EBUSY) || !want.move {
			return err
		}
		if e := h.fetch(own, aside); e != nil || time.Now().After(deadline) {
			return errors.Join(err, e)
		}
	}
}

// moveBack undoes moveAside, for everyone whom we started there as well.
func (h *Host) moveBack(dir, lease string, enabled Controller) error {
	aside, own := nodeAt(dir+"/"+supervisorPrefix+lease, true), nodeAt(dir, true)
	if enabled != 0 {
		if err := own.write("cgroup.subtree_control", switchV2("-", enabled)); err != nil {
			return fmt.Errorf("cgroup: another supervisor's tree still lives in %s, so this process stays in %s: %w", dir, aside.abs, err)
		}
	}
	pids, err := aside.pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := own.write("cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cgroup: move process %d back: %w", pid, err)
		}
	}
	return h.remove(aside, time.Now().Add(removeWait))
}
