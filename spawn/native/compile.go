package native

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
)

// A native spawn is four lists of steps:
//
//	setup    once, by the launcher: the template root that it then lives in
//	prepare  per actor, by the launcher: what needs the launcher's privileges
//	before   per actor, by its init: namespaces, mounts, hello; and from Fork on
//	         by the program's process: confinement, while the supervisor checks who said hello
//	after    per actor, by the program's process: exec
//
// The launcher lives in the template, so an actor's root is its copy of the
// launcher's mount namespace: no pivot_root(2) and no unmount per spawn.

// Slots of the launcher and of an actor's init.
const (
	slotStage = iota // the tmpfs on which the template is built
	slotRoot         // the template's root where it is an overlay
	slotTree         // lower layer
	slotBind         // one bind at a time
	slotProc

	slotFiles  = plan.SlotRequest // as spawn.Files
	slotSocket = 42
	slotMount  = 43

	// 45 is the terminal, see spawn.Confine
)

// stageAt is where the stage is mounted until the pivot: any directory that
// exists everywhere and that no one wants to bind.
const stageAt = "/sys"

const (
	hidden  = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	inert   = hidden | unix.MOUNT_ATTR_NOEXEC
	fixed   = unix.MOUNT_ATTR_RDONLY | hidden
	noLinks = unix.RESOLVE_NO_SYMLINKS
)

const (
	socketPath = spawn.DefaultSocket
	socketDir  = spawn.GuestDir
)

// steps is a plan section under construction.
type steps []plan.Step

func (s *steps) add(k plan.Kind, nums []uint64, strs ...string) {
	*s = append(*s, plan.Step{Kind: k, Nums: nums, Strs: strs})
}

func n(v ...uint64) []uint64 { return v }

func (s *steps) fsmount(slot, attrs uint64, fstype string, options ...string) {
	var b strings.Builder
	for _, o := range options {
		key, val, _ := strings.Cut(o, "=")
		b.WriteString(key + "\x00" + val + "\x00")
	}
	s.add(plan.Fsmount, n(slot, attrs), fstype, b.String())
}

func (s *steps) openTree(slot, flags, set, root uint64, p string) {
	s.add(plan.OpenTree, n(slot, flags, set, 0, root), p)
}

func (s *steps) attach(root, mount, resolve uint64, target string) {
	s.add(plan.Attach, n(root, mount, resolve), target)
}

func (s *steps) mkdir(root uint64, p string, mode uint32) {
	s.add(plan.Mkdir, n(root, uint64(mode&0o7777), plan.NoID, plan.NoID, plan.Exist), p)
}

// template says what the launcher must be built for.
type template struct {
	rootless bool
	own      bool // the root is the user's own: a directory or an archive
	owned    bool // see Options
	r        *spawn.Request
}

func newTemplate(r *spawn.Request, rootless bool) template {
	return template{rootless: rootless, own: r.Root.Kind == rootfs.Dir || r.Root.Kind == rootfs.Tar, r: r}
}

func (b *Backend) template(r *spawn.Request) template {
	t := newTemplate(r, b.rootless)
	t.owned = b.options.Owned
	return t
}

// bound templates refer to ids or paths of one actor.
func (t template) bound() bool { return t.own || len(t.r.Mounts) > 0 }

// dedicated templates serve one actor, and end with it.
func (t template) dedicated() bool { return t.r.Alone || t.bound() }

// Bound reports whether the template that r needs refers to the actor's own
// ids; others can be prepared by Warm before those are known.
func Bound(r *spawn.Request) bool { return newTemplate(r, false).bound() }

// prepare is what the launcher does before each fork.
func (t template) prepare(socket string) []plan.Step {
	var s steps
	if t.r.Netns != nil {
		s.add(plan.Setns, n(uint64(slotFiles+len(spawn.Files(t.r))-1), unix.CLONE_NEWNET)) // it travels last
	}
	s.add(plan.Listen, n(plan.SlotListen, slotSocket), socketDir+"/"+socket)
	if t.r.Scratch.Bytes > 0 && !t.r.Root.Writable {
		t.scratch(&s)
	}
	return s
}

func (t template) cloneFlags() uint64 {
	return unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
}

// ownNetns: the launcher serves one actor, and makes its own network namespace the actor's.
func (t template) ownNetns() bool { return t.r.Alone && !t.r.HostNetwork && t.r.Netns == nil }

// freshNetns: each actor makes one.
func (t template) freshNetns() bool { return !t.r.Alone && !t.r.HostNetwork && t.r.Netns == nil }

// ids are the maps of the actor's user namespace. With ids of its own there
// are two: the init is another user than the program, so that the program can
// neither signal nor limit it. Otherwise the one id that may be mapped is both's.
func (t template) ids() (uids, gids []launcher.IDMap, initUID, initGID int) {
	r := t.r
	if r.Host == nil {
		return []launcher.IDMap{{Inside: r.UID, Outside: 0, Count: 1}}, []launcher.IDMap{{Inside: r.GID, Outside: 0, Count: 1}}, r.UID, r.GID
	}
	other := func(program int) int { // inside, the init is 0 unless the program is
		if program == 0 {
			return 1
		}
		return 0
	}
	initUID, initGID = other(r.UID), other(r.GID)
	return []launcher.IDMap{{Inside: initUID, Outside: r.Host.InitUID, Count: 1}, {Inside: r.UID, Outside: r.Host.UID, Count: 1}},
		[]launcher.IDMap{{Inside: initGID, Outside: r.Host.InitGID, Count: 1}, {Inside: r.GID, Outside: r.Host.GID, Count: 1}}, initUID, initGID
}

const secbitNoSetuidFixup = 1 << 2 // <linux/securebits.h>

// before is the first half: everything but the program.
func (t template) before(id spawn.Identity) ([]plan.Step, error) {
	var s steps
	r := t.r
	_, _, initUID, initGID := t.ids()
	if t.freshNetns() {
		s.add(plan.NetnsStart, nil)
	}
	s = append(s, spawn.JoinSteps(r)...)
	s.add(plan.Unshare, n(unix.CLONE_NEWCGROUP)) // after joining, so that the actor's own cgroup is its root
	s.add(plan.Hostname, nil, r.Hostname)
	s.add(plan.Keyring, nil)
	if r.Affinity != nil {
		s.add(plan.Affinity, nil, string(r.Affinity))
	}
	s.add(plan.Sync, nil)
	if r.TimeNS { // while /proc/self is still this process's own: a change of id gives it to root
		s.add(plan.Unshare, n(unix.CLONE_NEWTIME))
		s.add(plan.TimeOffsets, nil, timeOffsets())
	}
	if r.Host != nil && r.Host.UID == 0 && r.UID == 0 {
		// The caller, who is 0 in the launcher, is the program, and 0 here too: to become the init would cost all capabilities.
		s.add(plan.Securebits, n(secbitNoSetuidFixup))
	}
	s.add(plan.Setid, n(uint64(initUID), uint64(initGID), b2u(r.Host == nil)))
	s.add(plan.Undumpable, nil)
	if r.Scratch.Bytes > 0 {
		t.private(&s)
	}
	proc := uint64(inert | unix.MOUNT_ATTR_RDONLY)
	if r.Guest != nil {
		proc = inert // it maps the ids of the user namespaces that it makes
	}
	s.fsmount(slotMount, proc, "proc")
	s.attach(plan.Cwd, slotMount, noLinks, "/proc")
	for _, m := range masks() {
		s.openTree(slotMount, 0, 0, plan.Cwd, m.with)
		s.attach(plan.Cwd, slotMount, noLinks, m.path)
	}
	s.fsmount(slotMount, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "devpts", "newinstance", "ptmxmode=0666", "mode=0620")
	s.attach(plan.Cwd, slotMount, noLinks, "/dev/pts")
	s.attach(plan.Cwd, slotSocket, noLinks, socketPath)
	switch {
	case r.Guest != nil:
		t.guest(&s)
	case !r.Alone: // nobody needs to see the names of the others' sockets
		s.openTree(slotMount, 0, 0, plan.Cwd, emptyDir)
		s.attach(plan.Cwd, slotMount, noLinks, socketDir)
	}
	if !r.Root.Writable {
		s.add(plan.Setattr, n(plan.Cwd, 0, unix.MOUNT_ATTR_RDONLY, 0), "/")
	}
	if t.own {
		for _, d := range ourDirs {
			s.add(plan.Setattr, n(plan.Cwd, 0, unix.MOUNT_ATTR_RDONLY, 0), d)
		}
	}
	if t.freshNetns() {
		s.add(plan.NetnsJoin, nil)
	}
	s = append(s, id.Connect(socketPath))
	confine, err := spawn.Confine(r, true)
	s = append(s, confine...)
	s.add(plan.Welcome, nil)
	return s, err
}

// private makes the writable places, all on one superblock so that one limit
// holds for them together. The superblock's own root ends up covered by /tmp.
func (t template) private(s *steps) {
	r := t.r
	if !r.Root.Writable {
		s.attach(plan.Cwd, plan.SlotScratch, noLinks, "/tmp")
	}
	dir := func(name string, mode uint64) {
		s.add(plan.Mkdir, n(plan.Cwd, mode, uint64(r.UID), uint64(r.GID), 0), "/tmp/"+name)
	}
	dir("home", 0o700)
	dir("shm", 0o1777)
	dir("tmp", 0o1777)
	for _, b := range [][2]string{{"home", rootfs.Home}, {"shm", "/dev/shm"}, {"tmp", "/tmp"}} {
		s.openTree(slotMount, 0, 0, plan.Cwd, "/tmp/"+b[0])
		s.attach(plan.Cwd, slotMount, noLinks, b[1])
	}
}

// guest makes the directory of a program that is a boundary itself, over that of the sockets' names.
func (t template) guest(s *steps) {
	r := t.r
	owner := []uint64{uint64(r.UID), uint64(r.GID)}
	s.fsmount(slotMount, inert, "tmpfs", "mode=0700", "size=8m", "nr_inodes=256",
		"uid="+strconv.FormatUint(owner[0], 10), "gid="+strconv.FormatUint(owner[1], 10))
	s.attach(plan.Cwd, slotMount, noLinks, socketDir)
	for _, f := range r.Guest.Files {
		s.add(plan.WriteFile, n(plan.Cwd, 0o444, 0), socketDir+"/"+f.Name, f.Text)
	}
}

// timeOffsets start both clocks of time_namespaces(7) at (nearly) zero.
func timeOffsets() string {
	var mono, boot unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono)
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	return fmt.Sprintf("%d %d 0\n%d %d 0\n", unix.CLOCK_MONOTONIC, -mono.Sec, unix.CLOCK_BOOTTIME, -boot.Sec)
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

type mask struct{ path, with string }

// masks covers what /proc tells about the host beyond the actor, as OCI
// runtimes do; /proc is read-only as a whole besides. Only what exists, and
// what others than root could read, is covered. Looked up once.
var masks = sync.OnceValue(func() []mask {
	var m []mask
	for _, p := range []string{"acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"} {
		var st unix.Stat_t
		switch err := unix.Stat("/proc/"+p, &st); {
		case errors.Is(err, syscall.ENOENT):
		case err == nil && st.Mode&0o7 == 0: // root's alone, and nobody in an actor is the host's root
		case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
			m = append(m, mask{"/proc/" + p, emptyDir})
		default:
			m = append(m, mask{"/proc/" + p, "/dev/null"})
		}
	}
	return m
})

// ourDirs are mounts of our own in a root of the user's: neither devices nor
// sockets lie among the user's files, where a link could lead them elsewhere.
var ourDirs = []string{"/dev", "/run/sandboxd"}

// emptyDir of the skeleton covers directories.
const emptyDir = "/run/sandboxd/empty"

func socketName(nonce [8]byte) string { return hex.EncodeToString(nonce[:]) }
