package microvm

import (
	"fmt"
	"math"
	"math/bits"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/landlock"
	"sandboxd/namespaces/seccomp"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/vm"
)

// Where things are in the monitor's root, and below the same names in the guest.
const (
	atQEMU    = "/vm/qemu"
	atKernel  = "/vm/kernel"
	atModules = "/vm/modules.d"
	atRoot    = "/vm/root"  // a root that is a directory, in its name "at"
	atMounts  = "/vm/mount" // the user's mounts, in N/at; a file's directory can be shared, a file cannot
)

// owner is the program's id in the guest, and that of the VMM in its own user
// namespace: who owns what is let in is seen as this one by both.
const owner = 1000

const (
	// overhead of the memory limit is QEMU's and the monitor's own.
	overhead  = 160 << 20
	codeCache = 32 << 20 // of the emulator, within overhead
	// leastGuest boots, and runs a small program.
	leastGuest = 128 << 20
	// usualGuest is what a guest has where there is no limit.
	usualGuest = 512 << 20
)

// Overhead implements spawn.Foreign: a machine takes these threads, besides those of the program, which it counts itself.
func (b *Backend) Overhead(processes int64) int64 { return processes + 128 }

// Check refuses by name what this backend cannot hold.
func (b *Backend) Check(r *spawn.Request) error {
	no := func(f spawn.Feature, what, way string) error {
		return &spawn.Gate{Feature: f, Observed: "unsupported: " + what, Remedy: way}
	}
	switch {
	case r.HostNetwork || r.Netns != nil:
		return no(spawn.NetNS, "a program of the microvm backend has a network of its guest's only", "use --network none, or --backend native")
	case r.Terminal != nil:
		return no(spawn.Terminal, "programs of the microvm backend have no terminal yet", "run without --tty, or use --backend native")
	case r.Notify:
		return no(spawn.Filter, "what seccomp forbids in a guest is refused there, and not told to the host", "use --seccomp default, or --backend native")
	case r.Memory > 0 && r.Memory < overhead+leastGuest:
		return no("memory", fmt.Sprintf("a limit of %d MiB is less than the %d MiB that a guest's kernel, QEMU and its monitor take", r.Memory>>20, (overhead+leastGuest)>>20),
			fmt.Sprintf("raise --memory to %dm, or use --backend native", (overhead+leastGuest)>>20))
	}
	return nil
}

// outer is the native actor that QEMU is in. Its program is set by the caller.
func (s *supply) outer(r *spawn.Request) (*spawn.Request, error) {
	policy, err := seccomp.Default(seccomp.Native(), seccomp.Options{NoAffinity: r.Affinity != nil})
	if err != nil {
		return nil, err
	}
	filter, err := policy.Compile()
	if err != nil {
		return nil, err
	}
	_, noLandlock := landlock.ABI()
	var files unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	most := min(files.Max, 16384) // 9p has one for each file that the guest knows
	o := &spawn.Request{
		ID: r.ID, Argv: append([]string{"sandboxd-monitor"}, s.options.MonitorArgs...), Env: []string{"PATH=/nowhere", "LANG=C", "GODEBUG=asyncpreemptoff=1"},
		Dir: "/", UID: owner, GID: owner, Host: r.Host, Root: rootfs.Source{Kind: rootfs.Scratch}, Hostname: "vmm", Alone: r.Alone,
		Tasks: r.Tasks, Cgroup: r.Cgroup, Affinity: r.Affinity, Umask: 0o022, Filter: filter.Bytes(), Landlock: noLandlock == nil,
		Rlimits: []spawn.Rlimit{{Resource: spawn.RlimitCore}, {Resource: spawn.RlimitNofile, Soft: most, Hard: most}},
		Peer:    true, Stdio: r.Stdio, Inspect: r.Inspect,
		Mounts: []rootfs.Mount{{Source: s.qemuDir, Target: atQEMU}, {Source: s.image, Target: atKernel}, {Source: s.modules, Target: atModules}},
	}
	switch r.Root.Kind {
	case rootfs.Host: // nothing of it is anybody's but the system's
		o.Root = rootfs.Source{Kind: rootfs.Host}
	case rootfs.Dir, rootfs.Tar:
		o.Mounts = append(o.Mounts, rootfs.Mount{Source: r.Root.Path, Target: atRoot + "/at"})
	}
	for i, m := range r.Mounts {
		o.Mounts = append(o.Mounts, rootfs.Mount{Source: m.Source, Target: mountAt(i), Writable: m.Writable})
	}
	return o, nil
}

func mountAt(i int) string { return atMounts + "/" + strconv.Itoa(i) + "/at" }

// job is what the monitor is to do for r, but for its Exe: see program.
func (s *supply) job(r *spawn.Request) *job {
	j := &job{Modules: atModules, Guest: s.options.GuestArgs, Run: run{
		Peer: r.Peer, PIDs: r.PIDs, Argv: texts(r.Argv), Env: texts(r.Env), Dir: text(r.Dir), UID: r.UID, GID: r.GID,
		Root: r.Root.Kind, RootPath: atRoot + "/at", Writable: r.Root.Writable, Scratch: r.Scratch, Hostname: r.Hostname,
		TimeNS: r.TimeNS, Rlimits: r.Rlimits, Umask: r.Umask, Filter: r.Filter, Landlock: r.Landlock,
	}}
	shared := func(dir string, writable, fixed bool) {
		tag := "share" + strconv.Itoa(len(j.Run.Shares))
		j.Run.Shares = append(j.Run.Shares, share{Tag: tag, At: dir, Writable: writable, Fixed: fixed})
		j.Machine.Shares = append(j.Machine.Shares, vm.Share{Tag: tag, Path: dir, Writable: writable})
	}
	switch r.Root.Kind {
	case rootfs.Host:
		for _, e := range rootfs.Skeleton(rootfs.Source{Kind: rootfs.Host}, rootfs.Identity{}) {
			top := path.Dir(e.Path) != "/etc" && !strings.HasPrefix(e.Path, "/dev/") && !strings.HasPrefix(e.Path, "/etc/")
			switch {
			case top && e.Source != "":
				shared(e.Path, false, true)
			case top && e.Mode&unix.S_IFMT == unix.S_IFLNK && path.Dir(e.Path) == "/":
				j.Run.Links = append(j.Run.Links, [2]string{e.Path, e.Text})
			}
		}
		shared("/etc", false, true)
	case rootfs.Dir, rootfs.Tar:
		shared(atRoot, false, true)
	}
	writable := false
	for i, m := range r.Mounts {
		writable = writable || m.Writable // of the others the VMM's own mounts are read-only
		j.Run.Mounts = append(j.Run.Mounts, mounted{Source: mountAt(i), Target: text(m.Target), Writable: m.Writable})
	}
	if len(r.Mounts) > 0 {
		shared(atMounts, writable, false)
	}
	m := &j.Machine
	inside := func(list []string) (in []string) {
		for _, w := range list {
			in = append(in, strings.ReplaceAll(w, s.qemuDir, atQEMU))
		}
		return in
	}
	m.QEMU, m.Data, m.Kernel = inside(s.qemu), inside(s.data), atKernel
	m.Memory, m.CPUs, m.CodeCache = guestMemory(r.Memory), processors(r), codeCache
	m.Ports = []string{portControl, portIn, portOut, portErr}
	if r.Peer {
		m.Ports = append(m.Ports, portPeer)
	}
	return j
}

func guestMemory(limit int64) int64 {
	if limit == 0 {
		return usualGuest
	}
	return (limit - overhead) &^ (1<<20 - 1)
}

// processors are as many as the limit lets run at once, and no more than there are.
func processors(r *spawn.Request) int {
	n := 1
	if r.CPUs > 0 {
		n = int(math.Ceil(r.CPUs))
	}
	n = min(n, runtime.NumCPU(), 8)
	if r.Affinity != nil {
		set := 0
		for _, b := range r.Affinity {
			set += bits.OnesCount8(b)
		}
		n = min(n, set)
	}
	return max(n, 1)
}

// program makes exe the guest's program. Its copies are QEMU's, the guest's loader's and the guest's own.
func (j *job) program(exe *os.File) error {
	st, err := exe.Stat()
	if err != nil {
		return err
	}
	if need := leastGuest + 3*st.Size(); j.Machine.Memory < need {
		limit := (need + overhead + 1<<20 - 1) >> 20
		return &spawn.Gate{
			Feature:  "memory",
			Observed: fmt.Sprintf("unsupported: a guest with %d MiB has no room for a program of %d MiB that is given by descriptor", j.Machine.Memory>>20, st.Size()>>20),
			Remedy:   fmt.Sprintf("raise --memory to %dm, mount the program and name its path, or use --backend native", limit),
		}
	}
	j.Run.Exe = 0o444
	if st.Mode()&0o111 != 0 {
		j.Run.Exe = 0o555
	}
	return nil
}

// config is the machine with what the monitor has open.
func (j *job) config(initrd *os.File, console *tail) vm.Config {
	c := j.Machine
	c.Initrd, c.Console = initrd, console
	if c.KVM {
		c.Device = os.NewFile(spawn.GuestFD, "/dev/kvm")
	}
	return c
}
