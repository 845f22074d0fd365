package doctor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/namespaces/landlock"
	"sandboxd/rootfs"
	"sandboxd/sandbox"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
)

// Observe looks at this host. It leaves nothing behind.
func Observe(ctx context.Context) *Facts {
	f := &Facts{
		UID: os.Geteuid(), Privileged: namespaces.Privileged(), Place: namespaces.Place(""),
		Backends: map[string]Answers{}, Cgroups: Answers{}, UserNS: number("/proc/sys/user/max_user_namespaces"),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	f.Seccomp = strings.Fields(text("/proc/sys/kernel/seccomp/actions_avail"))
	f.observeCgroups()
	f.observeLimits()
	f.observeSubIDs()
	abi, err := landlock.ABI()
	f.Landlock, f.NoLandlock = abi, answer(err)
	f.Memfd = answer(tryMemfd())
	f.try(ctx)
	return f
}

// try does things by doing them: what fails is what does not work.
func (f *Facts) try(ctx context.Context) {
	host, err := sandbox.Open(sandbox.Options{})
	f.Lease = answer(err)
	untried := Answer{Observed: "not tried: no lease could be taken", Untried: true}
	f.Overlay, f.Idmap, f.Notify, f.Clocks, f.SwapLimit = untried, untried, untried, untried, untried
	if err != nil {
		return
	}
	defer host.Close()
	var mu sync.Mutex // guards f.Backends
	var all sync.WaitGroup
	for _, name := range []string{"native", "process", "container", "gvisor"} {
		b, err := host.Backend(name)
		if err != nil {
			continue
		}
		all.Go(func() {
			answers := Answers{}
			for feature, err := range b.Probe(ctx) {
				answers[string(feature)] = answer(err)
			}
			mu.Lock()
			defer mu.Unlock()
			f.Backends[name] = answers
		})
	}
	all.Wait()
	if !f.works(defaultBackend) {
		untried.Observed = "not tried: the " + defaultBackend + " backend does not work"
		f.Overlay, f.Idmap, f.Notify, f.Clocks, f.SwapLimit = untried, untried, untried, untried, untried
		return
	}
	all.Go(func() { f.Overlay, f.Idmap = tryRoot(ctx, host) })
	all.Go(func() { f.Notify = answer(reaches(ctx, host, sandbox.Spec{SeccompKill: true})) })
	all.Go(func() { f.Clocks = answer(reaches(ctx, host, sandbox.Spec{TimeNS: true})) })
	all.Go(func() {
		f.SwapLimit = answer(reaches(ctx, host, sandbox.Spec{Limits: sandbox.Limits{Memory: 64 << 20, MemorySwap: 128 << 20}}))
	})
	all.Wait()
}

// reaches starts an actor with a program that does not exist: the kernel's
// answer to that proves that everything before it worked.
func reaches(ctx context.Context, h *sandbox.Host, s sandbox.Spec) error {
	s.Argv = []string{"/nonexistent/sandboxd-doctor"}
	a, err := h.Start(ctx, s)
	var step *spawn.StepError
	if errors.As(err, &step) && step.Program() && step.Errno == syscall.ENOENT {
		return nil
	}
	if err == nil { // someone has that program
		a.Cancel("doctor", 0)
		_, err = a.Wait(ctx)
	}
	return err
}

// tryRoot runs on a writable root made of a directory.
func tryRoot(ctx context.Context, h *sandbox.Host) (overlay, idmap Answer) {
	dir, err := os.MkdirTemp("", "sandboxd-doctor-")
	if err != nil {
		return answer(err), answer(err)
	}
	defer os.RemoveAll(dir)
	root, err := rootfs.Parse(dir)
	if err == nil {
		root.Writable = true
		err = reaches(ctx, h, sandbox.Spec{Root: root})
	}
	var step *spawn.StepError
	if errors.As(err, &step) && step.Step.String() == "idmap" {
		return Answer{Observed: "not tried: mapping the ids of a directory failed first", Untried: true}, answer(err)
	}
	return answer(err), Answer{}
}

// answer keeps what an error observed apart from its remedy, where it tells.
func answer(err error) Answer {
	if err == nil {
		return Answer{}
	}
	var gate *spawn.Gate
	var lacks *cgroup.Unavailable
	switch {
	case errors.As(err, &gate):
		return Answer{Observed: gate.Observed, Remedy: gate.Remedy}
	case errors.As(err, &lacks):
		a := Answer{Observed: lacks.Observed, Remedy: lacks.Remedy}
		if lacks.Err != nil {
			a.Observed += ": " + lacks.Err.Error()
		}
		return a
	}
	return Answer{Observed: err.Error()}
}

var controllers = []cgroup.Controller{cgroup.Memory, cgroup.PIDs, cgroup.CPU, cgroup.CPUTime, cgroup.IO, cgroup.Unified}

func (f *Facts) observeCgroups() {
	host, err := cgroup.Detect()
	if f.CgroupMode = "unknown"; err == nil {
		f.CgroupMode = host.Mode()
	}
	for _, c := range controllers {
		if err == nil {
			f.Cgroups[c.String()] = answer(host.Has(c))
		} else {
			f.Cgroups[c.String()] = answer(err)
		}
	}
}

func (f *Facts) observeLimits() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		f.Nofile = l.Max
	}
	if unix.Getrlimit(unix.RLIMIT_NPROC, &l) == nil {
		f.Nproc = l.Cur
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		f.SwapBytes = int64(info.Totalswap) * int64(info.Unit)
	}
}

func (f *Facts) observeSubIDs() {
	uids, gids, err := namespaces.SubIDs()
	f.SubIDs = SubIDs{UIDs: uids.Count, GIDs: gids.Count}
	if err != nil {
		f.SubIDs.Error = err.Error()
	}
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			f.SubIDs.Lacks = append(f.SubIDs.Lacks, tool)
		}
	}
}

// tryMemfd asks for an executable memory file, as launchers are started from one.
func tryMemfd() error {
	fd, err := unix.MemfdCreate("sandboxd-doctor", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL { // a kernel before 6.3, where all are executable
		fd, err = unix.MemfdCreate("sandboxd-doctor", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number is -1 where the file does not tell.
func number(path string) int64 {
	n, err := strconv.ParseInt(text(path), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
