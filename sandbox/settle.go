package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
)

// measure fills in the report but for the verdict, while the cgroup can be asked.
func (a *Process) measure(exit spawn.Exit, wall time.Duration) cgroup.Events {
	r, rep := a.res, &a.report
	rep.Schema, rep.Backend, rep.Choice = ReportSchema, r.backend.Name(), r.choice
	rep.Actor = ActorID{a.id, r.spec.name()}
	rep.Isolation.Missing = append([]Missing{}, r.missing...)
	if rep.Isolation.Enforced == nil {
		rep.Isolation.Enforced = []string{}
	}
	rep.Isolation.Network = r.spec.network()
	rep.Usage = Usage{Wall: wall, DiskBytes: rep.Usage.DiskBytes, User: exit.User, System: exit.System, MemoryPeak: exit.MaxRSS, ReadBytes: exit.ReadBytes, WriteBytes: exit.WrittenBytes}
	var guest cgroup.Events // what its own kernel counted; the host's counts the machine
	if g := exit.Guest; g != nil {
		rep.Isolation.Machine, rep.Usage.DiskBytes = g.Machine, g.DiskBytes
		guest = cgroup.Events{OOMKills: g.OOMKills, PIDsMax: g.PIDsMax}
		a.lacks("read-back", errors.New("ulimits, pids, disk and the walls around the program are held by the guest's kernel, which nobody here can look into; what is enforced was read of the machine's own process"))
	}
	if a.leaf == nil {
		return guest
	}
	u, err := a.leaf.Usage()
	if err == nil {
		overlay(&rep.Usage, u)
	}
	events, err2 := a.leaf.Events()
	if err := errors.Join(err, err2); err != nil {
		a.lacks("accounting", err)
	}
	events.OOMKills += guest.OOMKills
	events.PIDsMax += guest.PIDsMax
	return events
}

func overlay(u *Usage, c cgroup.Usage) {
	set := func(to *int64, v int64) {
		if v > 0 {
			*to = v
		}
	}
	set(&u.MemoryPeak, c.MemoryPeak)
	set(&u.PIDsPeak, c.PIDsPeak-1) // the init is not the user's
	set(&u.ReadBytes, c.ReadBytes)
	set(&u.WriteBytes, c.WriteBytes)
	if c.CPUUser > 0 || c.CPUSystem > 0 {
		u.User, u.System = c.CPUUser, c.CPUSystem
	}
}

// diskFull looks at the writable layer by a descriptor of our own.
func (a *Process) diskFull() bool {
	f := a.proc.Scratch()
	var st unix.Statfs_t
	if f == nil || unix.Fstatfs(int(f.Fd()), &st) != nil {
		return false
	}
	a.report.Usage.DiskBytes = int64(st.Blocks-st.Bfree) * st.Bsize
	return st.Bfree == 0 && st.Blocks > 0 || st.Ffree == 0 && st.Files > 0
}

// verdict decides why the actor ended. What counts is what the supervisor did,
// then what the kernel counted, then how the program ended; nothing is taken
// from inside the sandbox but the program's own exit status, and a signal says
// that a limit was reached only where there was that limit.
func verdict(exit spawn.Exit, err error, why Reason, note string, ev cgroup.Events, full bool, l *Limits) Exit {
	e := Exit{Code: exit.Status.ExitStatus(), Reason: Exited, Detail: ""}
	var sig syscall.Signal
	if exit.Status.Signaled() {
		sig = exit.Status.Signal()
		e.Code, e.Signal, e.Reason = 128+int(sig), unix.SignalName(sig), Signaled
	}
	failed := e.Code != 0
	set := func(r Reason, detail string) { e.Reason, e.Detail = r, detail }
	switch {
	case why != "":
		set(why, note)
		e.Code, e.Signal = 128+int(syscall.SIGKILL), "SIGKILL"
		switch why {
		case Timeout:
			e.Code = 124
		case Syscall:
			e.Code, e.Signal = 128+int(syscall.SIGSYS), "SIGSYS"
		case Lost:
			e.Code, e.Signal = 125, ""
		}
	case lostErr(err):
		set(Lost, "its launcher died, and the actor with it")
		e.Code, e.Signal = 125, ""
	case failed && ev.OOMKills > 0 && l.Memory == 0:
		set(OOM, "the host, or a cgroup above, ran out of memory")
	case failed && ev.OOMKills > 0:
		set(OOM, fmt.Sprintf("memory limit of %s reached", size(l.Memory))) // v2 counts one process twice: no number
	case sig == syscall.SIGXCPU && l.ulimit("cpu"):
		set(CPUTime, "CPU time limit of one process reached (ulimit cpu)")
	case sig == syscall.SIGXFSZ && (l.FileSize > 0 || l.ulimit("fsize")):
		set(Disk, "file size limit reached")
	case failed && full:
		set(Disk, fmt.Sprintf("writable layer is full (%s, %d inodes)", size(l.Disk), l.DiskInodes))
	case failed && ev.PIDsMax > 0:
		set(PIDs, fmt.Sprintf("limit of %d processes was hit %d times", l.PIDs, ev.PIDsMax))
	case exit.Guest != nil && exit.Guest.Lost != "":
		set(Lost, "its machine failed: "+exit.Guest.Lost)
		e.Code, e.Signal = 125, ""
	case !exit.Reported && sig == 0:
		set(Lost, fmt.Sprintf("its init ended without a word, with status %d", e.Code))
		e.Code = 125
	default:
		e.Detail = note // a cancel that the program obeyed
	}
	return e
}

// ulimit tells whether the user set one by that name.
func (l *Limits) ulimit(name string) bool {
	return slices.ContainsFunc(l.Ulimits, func(u Ulimit) bool { return u.Name == name })
}

// size is a byte count as people write it.
func size(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.unit && n%u.unit == 0 {
			return fmt.Sprintf("%d %s", n/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

func (s *Spec) name() string {
	if s.Name != "" || len(s.Argv) == 0 {
		return s.Name
	}
	return path.Base(s.Argv[0])
}

func (s *Spec) network() string {
	if s.Network == NetHost {
		return "host"
	}
	return "none"
}

// SpawnFailure is the report of an actor that never ran, for the error of Open or Start.
func SpawnFailure(s *Spec, err error) *Report {
	e := Exit{Code: 125, Reason: SpawnFailed, Detail: err.Error()}
	var step *spawn.StepError
	if errors.As(err, &step) && step.Program() {
		e.Code = 126
		if step.Errno == syscall.ENOENT {
			e.Code = 127
		}
	}
	backend, choice := s.Backend, Choice{Floor: s.Isolation, Why: "nothing was started"}
	switch {
	case backend == "" && s.Isolation != "":
		backend = Auto
	case backend == "":
		backend = "native"
	}
	return &Report{
		Schema: ReportSchema, Actor: ActorID{Name: s.name()}, Backend: backend, Choice: choice, Exit: e,
		Isolation: Isolation{Enforced: []string{}, Missing: []Missing{}, Network: s.network()},
		Spawn:     SpawnTime{Phases: []Phase{}},
	}
}
