package sandbox

import (
	"errors"
	"fmt"
	"math"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/namespaces/landlock"
	"sandboxd/namespaces/seccomp"
	"sandboxd/rootfs"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
)

// ErrSpec is wrapped by every error about what a Spec says.
var ErrSpec = errors.New("invalid spec")

// ErrUnenforceable is wrapped by the refusal of a Spec that this host cannot hold as a whole.
var ErrUnenforceable = errors.New("this host cannot enforce what was asked for")

// maxPIDs is the kernel's PID_MAX_LIMIT, less our init.
const maxPIDs = 4<<20 - 1

// Defaults of Limits.
const (
	defaultMemory = 512 << 20
	defaultPIDs   = 256
	defaultFiles  = 1024
	defaultDisk   = 256 << 20
	defaultInodes = 65536
	maxInodes     = 1 << 40 // tmpfs takes no more than 2^54
	defaultOutput = 1 << 30
)

// resolved is a Spec turned into facts.
type resolved struct {
	spec    Spec
	request spawn.Request
	backend spawn.Backend
	choice  Choice
	limits  Limits // every field a number: 0 is no limit from here on
	cgroup  cgroup.Limits
	missing []Missing
	refused []string
}

// lack records that something is not held: a refusal where the user asked for it.
func (r *resolved) lack(what string, required bool, why error) {
	if required && !r.spec.BestEffort {
		r.refused = append(r.refused, what+": "+why.Error())
		return
	}
	r.missing = append(r.missing, Missing{what, why.Error()})
}

// lacks tells whether something is not held.
func (r *resolved) lacks(what string) bool {
	return slices.ContainsFunc(r.missing, func(m Missing) bool { return m.What == what })
}

const bestEffortHint = "; with --best-effort it runs without, and the report says so"

// resolveOn decides everything about s on a backend.
func (h *Host) resolveOn(s Spec, b spawn.Backend) (*resolved, error) {
	r := &resolved{spec: s, limits: s.Limits, backend: b}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return nil, fmt.Errorf("%w: no program given", ErrSpec)
	}
	if b, ok := r.backend.(interface{ Usable() error }); ok {
		if err := b.Usable(); err != nil {
			return nil, err
		}
	}
	err := s.Root.Check()
	for _, m := range s.Mounts {
		err = errors.Join(err, m.Check())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	if s.Root.Writable && (s.Root.Kind == rootfs.Host || s.Root.Kind == rootfs.Scratch) {
		return nil, fmt.Errorf("%w: the %v root is always read-only; %s, /tmp and /dev/shm are writable, or give a directory or archive as root", ErrSpec, s.Root.Kind, rootfs.Home)
	}
	if s.Network != NetNone && s.Network != NetHost {
		return nil, fmt.Errorf("%w: network %q: want none or host", ErrSpec, s.Network)
	}
	if !r.namespaced() && (s.User != nil || s.Hostname != "") {
		return nil, &spawn.Gate{Feature: spawn.UserNS, Observed: "the process backend has no namespaces, so it cannot choose the user or the host name inside", Remedy: "use --backend native"}
	}
	if err := r.identity(h); err != nil {
		return nil, err
	}
	if err := r.limit(h); err != nil {
		return nil, err
	}
	if err := r.walls(h); err != nil {
		return nil, err
	}
	if c, ok := b.(interface{ Check(*spawn.Request) error }); ok {
		if err := c.Check(&r.request); err != nil {
			return nil, err
		}
	}
	if len(r.refused) > 0 {
		return nil, fmt.Errorf("%w: %s"+bestEffortHint, ErrUnenforceable, strings.Join(r.refused, "; "))
	}
	return r, nil
}

// namespaced tells whether actors of this backend have namespaces, and so a root and ids of their own.
func (r *resolved) namespaced() bool { return Reaches(r.backend.Name()).reaches(FloorNamespace) }

// foreign tells whether actors of this backend are on another kernel than the host's, which tells us nothing of them.
func (r *resolved) foreign() bool {
	_, yes := r.backend.(spawn.Foreign)
	return yes
}

// userKernel tells whether that kernel is in user space, and so makes system calls of its own.
func (r *resolved) userKernel() bool { return Reaches(r.backend.Name()) == FloorKernel }

// ownIDs tells whether the actor is to have ids of its own on the host. Those
// that root gave to an ordinary user exist in a user namespace only.
func (r *resolved) ownIDs(h *Host) bool {
	return h.ids.count > 0 && (h.ids.base != 1 || r.namespaced())
}

// callersFiles tells whether the program is let at files that belong to the
// caller, or to us as an archive's that may be written to do. Root has them
// id-mapped; an ordinary user's program must be the caller to use them.
func (r *resolved) callersFiles() bool {
	q := &r.request
	return len(q.Mounts) > 0 || q.Root.Kind == rootfs.Dir || q.Root.Kind == rootfs.Tar && q.Root.Writable
}

// hostIDs are the ids of a pair.
func (r *resolved) hostIDs(h *Host, pair int) *spawn.HostIDs {
	ids := h.ids.host(pair)
	if h.ids.base == 1 && r.callersFiles() {
		ids.UID, ids.GID = 0, 0 // the caller is 0 in the launcher
	}
	return ids
}

func (r *resolved) identity(h *Host) error {
	s, q := &r.spec, &r.request
	user := User{1000, 1000}
	if s.User != nil {
		user = *s.User
	}
	if user.UID < 0 || user.GID < 0 || user.UID > math.MaxInt32 || user.GID > math.MaxInt32 {
		return fmt.Errorf("%w: user %d:%d is out of range", ErrSpec, user.UID, user.GID)
	}
	q.UID, q.GID = user.UID, user.GID
	q.Root, q.Mounts, q.HostNetwork, q.TimeNS, q.Terminal = s.Root, s.Mounts, s.Network == NetHost, s.TimeNS, s.Terminal
	q.Alone, q.Peer = h.one, s.Peer
	q.Hostname = s.Hostname
	if q.Hostname == "" {
		q.Hostname = "sandbox"
	}
	if len(q.Hostname) > 64 || strings.Trim(q.Hostname, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" {
		return fmt.Errorf("%w: host name %q: want at most 64 letters, digits, dots and hyphens", ErrSpec, q.Hostname)
	}
	home := rootfs.Home
	if q.Dir = s.Dir; q.Dir == "" {
		q.Dir = home
		if s.Root.Kind == rootfs.Dir || s.Root.Kind == rootfs.Tar {
			q.Dir = "/"
		}
	}
	if !path.IsAbs(q.Dir) {
		return fmt.Errorf("%w: working directory %q is not absolute", ErrSpec, q.Dir)
	}
	q.Umask = 0o022
	q.Argv = s.Argv
	if s.self {
		var err error
		if q.Exe, err = selfExe(); err != nil {
			return err
		}
	}
	q.Env = []string{"PATH=" + rootfs.Path, "HOME=" + home, "USER=sandbox", "LANG=C.UTF-8"}
	for _, kv := range s.Env {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return fmt.Errorf("%w: environment %q: want KEY=value", ErrSpec, kv)
		}
		q.Env = slices.DeleteFunc(q.Env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		q.Env = append(q.Env, kv)
	}
	return nil
}

// withDefault resolves one limit: its value and whether the user asked for it.
func withDefault(v *int64, def int64, name string) (required bool, err error) {
	switch {
	case *v == 0:
		*v = def
		return false, nil
	case *v == Unlimited:
		*v = 0
		return false, nil
	case *v < 0:
		return false, fmt.Errorf("%w: %s of %d: want a positive number, 0 for the default or -1 for no limit", ErrSpec, name, *v)
	}
	return true, nil
}

func (r *resolved) limit(h *Host) error {
	l := &r.limits
	var info unix.Sysinfo_t
	memory := int64(defaultMemory)
	if unix.Sysinfo(&info) == nil {
		memory = min(memory, int64(info.Totalram)*int64(info.Unit)/2)
	}
	mem, err1 := withDefault(&l.Memory, memory, "memory limit")
	pids, err2 := withDefault(&l.PIDs, defaultPIDs, "process limit")
	disk, err3 := withDefault(&l.Disk, defaultDisk, "disk limit")
	inodes, err4 := withDefault(&l.DiskInodes, defaultInodes, "inode limit")
	_, err5 := withDefault(&l.Output, defaultOutput, "output limit")
	_, err6 := withDefault(&l.FileSize, 0, "file size limit")
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	cpus := l.CPUs > 0
	switch {
	case l.DiskInodes > maxInodes:
		return fmt.Errorf("%w: inode limit of %d: want at most %d, or -1 for no limit", ErrSpec, l.DiskInodes, maxInodes)
	case l.CPUs == Unlimited:
		l.CPUs = 0
	case l.CPUs == 0:
		l.CPUs = float64(runtime.NumCPU()) - 0.1
	case l.CPUs < 0.001 || math.IsNaN(l.CPUs) || l.CPUs > 10000:
		return fmt.Errorf("%w: CPU limit of %v CPUs: want 0.001 to 10000", ErrSpec, l.CPUs)
	}
	for name, d := range map[string]*time.Duration{"timeout": &l.Timeout, "CPU time limit": &l.CPUTime} {
		if *d == Unlimited {
			*d = 0
		} else if *d < 0 {
			return fmt.Errorf("%w: %s of %v is negative", ErrSpec, name, *d)
		}
	}
	r.cgroups(h, mem, pids, cpus)
	if err := r.cgroup.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	if err := r.rlimits(); err != nil {
		return err
	}
	if err := r.cpuset(); err != nil {
		return err
	}
	r.disk(disk || inodes)
	r.request.Memory, r.request.PIDs, r.request.CPUs = l.Memory, l.PIDs, l.CPUs
	return nil
}

// cgroups decides which limits the actor's cgroup holds.
func (r *resolved) cgroups(h *Host, mem, pids, cpus bool) {
	l, c := &r.limits, &r.cgroup
	has := func(ctl cgroup.Controller) error {
		if h.noCgroup != nil {
			return h.noCgroup
		}
		return h.cgroups.Has(ctl)
	}
	for _, want := range []struct {
		on, required bool
		what         string
		ctl          cgroup.Controller
		set, unset   func()
	}{
		{l.Memory > 0, mem, "memory", cgroup.Memory, func() { c.Memory, c.MemorySwap = l.Memory, l.MemorySwap }, func() { l.Memory = 0 }},
		{l.CPUs > 0, cpus, "cpus", cgroup.CPU, func() { c.CPUMilli = int64(math.Ceil(l.CPUs * 1000)) }, func() { l.CPUs = 0 }},
		{l.CPUTime > 0, true, "cpu-time", cgroup.CPUTime, func() { c.Account |= cgroup.CPUTime }, func() { l.CPUTime = 0 }},
	} {
		if !want.on {
			continue
		}
		if err := has(want.ctl); err != nil {
			r.lack(want.what, want.required, err)
			want.unset()
			continue
		}
		want.set()
	}
	if l.MemorySwap > 0 && l.Memory == 0 {
		r.lack("memory-swap", true, errors.New("there is no memory limit that it could extend"))
	}
	if l.PIDs > 0 {
		l.PIDs = min(l.PIDs, maxPIDs) // the kernel counts no further
		if err := has(cgroup.PIDs); err == nil {
			c.PIDs = l.PIDs + 1 // the init is not the user's
			if f, ok := r.backend.(spawn.Foreign); ok {
				c.PIDs = f.Overhead(c.PIDs)
			}
		} else if !r.namespaced() {
			r.lack("pids", pids, err)
			l.PIDs = 0
		} // else: a user namespace counts its processes by RLIMIT_NPROC
	}
	if has(cgroup.Unified) == nil {
		c.Account |= cgroup.Unified
	}
	if len(r.spec.Kinds) > 0 { // whatever those below will be limited to
		for _, ctl := range []cgroup.Controller{cgroup.Memory, cgroup.PIDs, cgroup.CPU, cgroup.CPUTime} {
			if has(ctl) == nil {
				c.Account |= ctl
			}
		}
		c.Group = c.Account != 0
	}
}

// ulimits are docker's names for setrlimit(2).
var ulimits = []struct {
	name     string
	resource int
}{
	{"core", unix.RLIMIT_CORE},
	{"cpu", unix.RLIMIT_CPU},
	{"data", unix.RLIMIT_DATA},
	{"fsize", unix.RLIMIT_FSIZE},
	{"locks", unix.RLIMIT_LOCKS},
	{"memlock", unix.RLIMIT_MEMLOCK},
	{"msgqueue", unix.RLIMIT_MSGQUEUE},
	{"nofile", unix.RLIMIT_NOFILE},
	{"nproc", unix.RLIMIT_NPROC},
	{"rss", unix.RLIMIT_RSS},
	{"rtprio", unix.RLIMIT_RTPRIO},
	{"rttime", unix.RLIMIT_RTTIME},
	{"sigpending", unix.RLIMIT_SIGPENDING},
	{"stack", unix.RLIMIT_STACK},
	{"as", unix.RLIMIT_AS},
	{"nice", unix.RLIMIT_NICE},
}

func (r *resolved) rlimits() error {
	set := map[int]spawn.Rlimit{}
	put := func(resource int, soft, hard uint64) {
		set[resource] = spawn.Rlimit{Resource: resource, Soft: soft, Hard: hard}
	}
	put(unix.RLIMIT_CORE, 0, 0)
	var have unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &have)
	put(unix.RLIMIT_NOFILE, min(defaultFiles, have.Max), min(defaultFiles, have.Max))
	if n := r.limits.FileSize; n > 0 {
		put(unix.RLIMIT_FSIZE, uint64(n), uint64(n))
	}
	if n := uint64(r.limits.PIDs); n > 0 && r.userKernel() { // which counts the program's
		put(unix.RLIMIT_NPROC, n+1, n+1)
	} else if n > 0 && r.cgroup.PIDs == 0 {
		if err := unix.Getrlimit(unix.RLIMIT_NPROC, &have); err == nil && n >= have.Max {
			if r.spec.Limits.PIDs > 0 && !r.spec.BestEffort {
				r.lack("pids", true, fmt.Errorf("%d processes and an init are above this process's own hard limit of %d, which only CAP_SYS_RESOURCE may raise", r.spec.Limits.PIDs, have.Max))
			}
			n = max(have.Max, 2) - 1 // a tighter limit holds as well
			r.limits.PIDs = int64(n)
		}
		put(unix.RLIMIT_NPROC, n+1, n+1)
	}
	for _, u := range r.spec.Limits.Ulimits {
		i := slices.IndexFunc(ulimits, func(k struct {
			name     string
			resource int
		},
		) bool {
			return k.name == u.Name
		})
		if i < 0 {
			return fmt.Errorf("%w: ulimit %q is not known; want one of nofile, nproc, fsize, stack, core, as, data, memlock, cpu, …", ErrSpec, u.Name)
		}
		if u.Soft < -1 || u.Hard < -1 {
			return fmt.Errorf("%w: ulimit %s=%d:%d: negative; -1 is unlimited", ErrSpec, u.Name, u.Soft, u.Hard)
		}
		if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
			return fmt.Errorf("%w: ulimit %s=%d:%d: the soft limit exceeds the hard one", ErrSpec, u.Name, u.Soft, u.Hard)
		}
		resource := ulimits[i].resource
		hard := uint64(u.Hard) // -1 is RLIM_INFINITY
		if err := unix.Getrlimit(resource, &have); err == nil && hard > have.Max {
			r.lack("ulimit "+u.Name, true, fmt.Errorf("%d is above this process's own hard limit of %d, which only CAP_SYS_RESOURCE may raise", u.Hard, have.Max))
			continue
		}
		put(resource, uint64(u.Soft), hard)
	}
	for resource := range 16 {
		if l, ok := set[resource]; ok {
			r.request.Rlimits = append(r.request.Rlimits, l)
		}
	}
	return nil
}

// cpuset holds the actor to its CPUs by affinity, which it is then forbidden
// to change: the same on every host, and without a cpuset cgroup.
func (r *resolved) cpuset() error {
	if r.limits.CPUSet == "" {
		return nil
	}
	cpus, err := parseCPUs(r.limits.CPUSet)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpec, err)
	}
	var have, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &have); err != nil {
		return fmt.Errorf("own CPU affinity: %w", err)
	}
	for _, c := range cpus {
		if !have.IsSet(c) {
			return fmt.Errorf("%w: CPU %d of %q is not one that this process may use", ErrSpec, c, r.limits.CPUSet)
		}
		want.Set(c)
	}
	r.request.Affinity = cpuMask(&want)
	return nil
}

func (r *resolved) disk(required bool) {
	if !r.namespaced() {
		r.lack("disk", required, &spawn.Gate{Feature: spawn.DiskLimit, Observed: "the process backend has no mounts of its own", Remedy: "use --backend native"})
		return
	}
	bytes, inodes := r.limits.Disk, r.limits.DiskInodes
	if bytes == 0 { // no limit asked for: the memory limit still bounds it
		bytes = math.MaxInt64 >> 12 << 12
	}
	r.request.Scratch = spawn.Scratch{Bytes: bytes, Inodes: inodes}
	for _, m := range r.spec.Mounts {
		if m.Writable {
			r.lack("disk", required, fmt.Errorf("%s is a directory of the host, whose size sandboxd cannot limit", m.Target))
		}
	}
}

// notScoped is what Landlock of an ABI leaves open where it is the only wall:
// without namespaces everywhere, but ids of its own keep signals in as well; on
// the host's network around abstract sockets, which belong to a network.
func (r *resolved) notScoped(abi int, ownIDs bool) (m []Missing) {
	rules, _ := landlock.Policy{}.Compile(abi) // which has no path that could be wrong
	for _, right := range rules.Missing {
		why := "the process backend has no other wall for it"
		switch {
		case r.namespaced() && (r.spec.Network != NetHost || right != "scope.abstract_unix_socket"), right == "scope.signal" && ownIDs:
			continue
		case r.namespaced():
			why = "with the host's network there is no other wall for it"
		}
		m = append(m, Missing{"landlock(" + right + ")", fmt.Sprintf("Landlock of this kernel (ABI %d) does not hold it, and %s", abi, why)})
	}
	return m
}

// walls decides the filters.
func (r *resolved) walls(h *Host) error {
	q := &r.request
	own := r.ownIDs(h) && (namespaces.Privileged() || !r.callersFiles())
	policy, err := seccomp.Default(seccomp.Native(), seccomp.Options{
		Kill: r.spec.SeccompKill, NoInet: !r.namespaced() && r.spec.Network == NetNone, NoAffinity: q.Affinity != nil,
		OwnLimits: !r.namespaced() && !own, // it sees the caller's processes, and is the caller to them
	})
	if err != nil {
		return err
	}
	filter, err := policy.Compile()
	if err != nil {
		return err
	}
	q.Filter, q.Notify = filter.Bytes(), r.spec.SeccompKill
	if r.userKernel() {
		r.missing = append(r.missing, Missing{"landlock", "a kernel of its own has none, and around that kernel it would forbid the mounts that it makes"})
	} else if abi, err := landlock.ABI(); err == nil {
		q.Landlock = true
		r.missing = append(r.missing, r.notScoped(abi, own)...)
	} else {
		r.missing = append(r.missing, Missing{"landlock", err.Error()})
	}
	if !own && r.namespaced() {
		r.missing = append(r.missing, Missing{"user-ids", "as an ordinary user the actor's processes keep this user's id (and its supplementary groups) on the host, so actors of one user are not told apart by id"})
	}
	if !r.namespaced() {
		for _, f := range []spawn.Feature{spawn.MountNS, spawn.PIDNS, spawn.NetNS, spawn.IPCNS} {
			r.missing = append(r.missing, Missing{string(f), "the process backend has no namespaces"})
		}
	}
	return nil
}
