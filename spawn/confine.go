package spawn

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/landlock"
	"sandboxd/rootfs"
	"sandboxd/spawn/plan"
)

// Securebits that take root's powers from uid 0 for good: no capability by
// uid, none kept, none ambient (capabilities(7)). With empty sets and
// no_new_privs they make the bounding set redundant at an eighth of its cost.
const securebits = 1<<0 | 1<<1 | // NOROOT, locked
	1<<2 | 1<<3 | // NO_SETUID_FIXUP, locked
	1<<5 | // KEEP_CAPS locked off
	1<<6 | 1<<7 // NO_CAP_AMBIENT_RAISE, locked

// slotTTY is where Confine leaves the slave of the terminal.
const slotTTY = 45

// Confine is the program's streams and, executed by its own process from Fork
// on, its identity and limits and the last walls. namespaced tells that it has
// a user namespace of its own, in which it holds the capabilities that changing
// the identity and the securebits takes.
func Confine(r *Request, namespaced bool) ([]plan.Step, error) {
	var s []plan.Step
	add := func(k plan.Kind, nums []uint64, strs ...string) {
		s = append(s, plan.Step{Kind: k, Nums: nums, Strs: strs})
	}
	add(plan.Umask, []uint64{uint64(r.Umask)})
	stdio, controlling := []uint64{plan.SlotRequest, plan.SlotRequest + 1, plan.SlotRequest + 2}, uint64(0)
	if w := r.Terminal; w != nil {
		uid, gid := r.UID, r.GID
		switch {
		case namespaced:
		case r.Host != nil:
			uid, gid = r.Host.UID, r.Host.GID
		default:
			uid, gid = os.Geteuid(), os.Getegid()
		}
		add(plan.TTY, []uint64{uint64(w.Rows), uint64(w.Cols), slotTTY, uint64(uid), uint64(gid)})
		stdio, controlling = []uint64{slotTTY, slotTTY, slotTTY}, 1
	}
	ownImage := uint64(0) // a time namespace needs one
	if r.TimeNS {
		ownImage = 1
	}
	add(plan.Fork, []uint64{ownImage})
	add(plan.Stdio, stdio)
	add(plan.Setsid, []uint64{controlling})
	if namespaced || r.Host != nil {
		add(plan.Securebits, []uint64{securebits})
	}
	switch {
	case r.Host != nil && namespaced:
		add(plan.Setid, []uint64{uint64(r.UID), uint64(r.GID), 1})
	case r.Host != nil:
		add(plan.Setid, []uint64{uint64(r.Host.UID), uint64(r.Host.GID), 0})
	}
	add(plan.Chdir, nil, r.Dir) // as the program, so that it cannot start where it may not go
	add(plan.DropCaps, nil)
	add(plan.NoNewPrivs, nil)
	if r.Landlock {
		walls, err := landlockSteps(r, namespaced)
		if err != nil {
			return nil, err
		}
		s = append(s, walls...)
	}
	for _, l := range r.Rlimits { // after what needs descriptors itself
		add(plan.Rlimit, []uint64{uint64(l.Resource), l.Soft, l.Hard})
	}
	add(plan.CloseFrom, []uint64{3})
	if r.Guest != nil {
		for i := range r.Guest.Keep {
			add(plan.Keep, []uint64{uint64(plan.SlotRequest + keepAt(r) + i), uint64(GuestFD + i)})
		}
	}
	if r.Filter != nil {
		var flags uint64
		if r.Notify {
			// Killable: a signal to the caller would else repeat the notification.
			flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		}
		add(plan.Seccomp, []uint64{flags}, string(r.Filter))
	}
	return s, nil
}

// Program ends every plan, behind Confine: what is executed.
func Program(r *Request) ([]plan.Step, error) {
	var s []plan.Step
	if r.Inspect != nil {
		s = append(s, plan.Step{Kind: plan.Confined})
	}
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return nil, fmt.Errorf("no program: argv is empty")
	}
	for what, list := range map[string][]string{"argument": r.Argv, "environment variable": r.Env} {
		for i, v := range list {
			if strings.ContainsRune(v, 0) {
				return nil, fmt.Errorf("%s %d contains a NUL byte, which no program can receive", what, i)
			}
		}
	}
	search := ""
	if !strings.Contains(r.Argv[0], "/") {
		search = lookup(r.Env, "PATH")
	}
	argv, env := nulList(r.Argv), nulList(r.Env)
	counts := []uint64{uint64(len(r.Argv)), uint64(len(r.Env))}
	if r.Exe != nil {
		if err := image(r.Exe); err != nil {
			return nil, err
		}
		return append(s, plan.Step{Kind: plan.ExecFD, Nums: append(counts, uint64(plan.SlotRequest+exeAt(r))), Strs: []string{argv, env}}), nil
	}
	return append(s, plan.Step{Kind: plan.Exec, Nums: counts, Strs: []string{r.Argv[0], argv, env, search}}), nil
}

// image refuses what execveat(2) could not execute, where it can be read.
func image(f *os.File) error {
	if script(f) {
		return fmt.Errorf("program %s is a script: its interpreter could not open it, for a program does not get its own descriptor; execute the interpreter", f.Name())
	}
	return nil
}

func script(f *os.File) bool {
	var head [2]byte
	n, _ := f.ReadAt(head[:], 0)
	return n == len(head) && string(head[:]) == "#!"
}

// OpenExe opens r.Exe for reading, for a kernel that cannot execute a file of
// ours: r.Exe may be open by name only (O_PATH). It refuses what execveat(2)
// would, and with the same errno. The caller closes the file.
func OpenExe(r *Request) (*os.File, error) {
	refuse := func(errno syscall.Errno) error {
		return &StepError{Step: plan.ExecFD, Object: fmt.Sprintf("exec %q by its descriptor", r.Argv[0]), Errno: errno}
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(r.Exe.Fd())))
	if err != nil {
		return nil, fmt.Errorf("program %s: %w", r.Exe.Name(), err)
	}
	if st, serr := f.Stat(); serr != nil || !st.Mode().IsRegular() {
		err = refuse(syscall.EACCES)
	} else if script(f) {
		err = refuse(syscall.ENOENT) // its interpreter could not open it
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Files are the descriptors of r, in the order in which they travel: stdio
// (none with a terminal), tasks, cgroup, exe, a guest's, netns. The first is in plan.SlotRequest.
func Files(r *Request) []*os.File {
	var f []*os.File
	if r.Terminal == nil {
		f = append(f, r.Stdio[:]...)
	}
	f = append(f, r.Tasks...)
	all := []*os.File{r.Cgroup, r.Exe}
	if r.Guest != nil {
		all = append(all, r.Guest.Keep...)
	}
	for _, one := range append(all, r.Netns) {
		if one != nil {
			f = append(f, one)
		}
	}
	return f
}

// JoinSteps move the actor's init into the cgroups of r.Tasks.
func JoinSteps(r *Request) (s []plan.Step) {
	for i := range r.Tasks {
		s = append(s, plan.Step{Kind: plan.JoinCgroup, Nums: []uint64{uint64(plan.SlotRequest + tasksAt(r) + i)}})
	}
	return s
}

func tasksAt(r *Request) int {
	if r.Terminal == nil {
		return len(r.Stdio)
	}
	return 0
}

// CgroupAt is the index of r.Cgroup in Files, -1 without one.
func CgroupAt(r *Request) int {
	if r.Cgroup == nil {
		return -1
	}
	return tasksAt(r) + len(r.Tasks)
}

// exeAt is the index of r.Exe in Files.
func exeAt(r *Request) int {
	at := tasksAt(r) + len(r.Tasks)
	if r.Cgroup != nil {
		at++
	}
	return at
}

// keepAt is the index of the first of r.Guest.Keep in Files.
func keepAt(r *Request) int {
	at := exeAt(r)
	if r.Exe != nil {
		at++
	}
	return at
}

// landlockSteps are the second wall: where the program may read, write and
// execute, said once more by path, so that one mistake in the mounts is not
// enough. They stand after Fork, so that signal scoping separates the program
// from its init.
func landlockSteps(r *Request, namespaced bool) ([]plan.Step, error) {
	abi, err := landlock.ABI()
	if err != nil {
		return nil, err
	}
	rules, err := landlockPolicy(r, namespaced).Compile(abi)
	if err != nil {
		return nil, err
	}
	s := []plan.Step{{Kind: plan.LandlockCreate, Nums: []uint64{rules.HandledFS, rules.HandledNet, rules.Scoped, uint64(len(rules.Attr()))}}}
	for _, rule := range rules.Rules {
		s = append(s, plan.Step{Kind: plan.LandlockPath, Nums: []uint64{rule.Access, plan.Optional}, Strs: []string{rule.Path}})
	}
	if r.Exe != nil {
		access := rules.HandledFS & (unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE)
		s = append(s, plan.Step{Kind: plan.LandlockFile, Nums: []uint64{access, uint64(plan.SlotRequest + exeAt(r))}})
	}
	return append(s, plan.Step{Kind: plan.LandlockRestrict}), nil
}

func landlockPolicy(r *Request, namespaced bool) landlock.Policy {
	var p landlock.Policy
	if namespaced { // the mount namespace holds only what may be seen
		p.Dirs.ReadExec = []string{"/"}
		p.Dirs.Device = []string{"/dev"}
		p.Files.Socket = []string{DefaultSocket}
		if r.Scratch.Bytes > 0 {
			p.Dirs.ReadWrite = []string{"/tmp", "/dev/shm", rootfs.Home}
		}
		if r.Root.Writable {
			p.Dirs.ReadWrite = append(p.Dirs.ReadWrite, "/")
		}
	} else {
		p.Dirs.ReadExec = rootfs.SystemDirs()
		for _, f := range rootfs.SystemEtc() {
			if st, err := os.Stat(f); err == nil && st.IsDir() {
				p.Dirs.Read = append(p.Dirs.Read, f)
			} else {
				p.Files.Read = append(p.Files.Read, f)
			}
		}
		p.Files.Device = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
		p.Dirs.ReadWrite = []string{r.Private}
		if r.Peer {
			p.Dirs.Socket = []string{r.Private} // nobody else's is there
		}
		p.Dirs.Read = append(p.Dirs.Read, "/proc")
		p.NoInet = !r.HostNetwork
	}
	for _, m := range r.Mounts {
		dirs := &p.Dirs
		if st, err := os.Stat(m.Source); err == nil && !st.IsDir() {
			dirs = &p.Files
		}
		dirs.ReadExec = append(dirs.ReadExec, m.Target)
		dirs.Socket = append(dirs.Socket, m.Target)
		if m.Writable {
			dirs.ReadWrite = append(dirs.ReadWrite, m.Target)
		}
	}
	return p
}

func nulList(list []string) string {
	var b strings.Builder
	for _, v := range list {
		b.WriteString(v)
		b.WriteByte(0)
	}
	return b.String()
}

func lookup(env []string, key string) string {
	for _, e := range slices.Backward(env) {
		if k, v, _ := strings.Cut(e, "="); k == key {
			return v
		}
	}
	return ""
}
