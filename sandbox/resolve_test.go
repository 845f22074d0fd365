package sandbox

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/namespaces/landlock"
	"sandboxd/rootfs"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/native"
	"sandboxd/spawn/plan"
)

var errNoCgroup = errors.New("no cgroup in this test")

// bare is a host without cgroups; nothing is started on it.
func bare() *Host {
	return &Host{noCgroup: errNoCgroup, backends: backends(native.Options{}, Options{})}
}

func missing(r *resolved) string {
	var names []string
	for _, m := range r.missing {
		names = append(names, m.What)
	}
	return strings.Join(names, " ")
}

func TestDefaults(t *testing.T) {
	r, err := bare().resolve(Spec{Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	q, l := &r.request, &r.limits
	switch {
	case r.backend.Name() != "native", q.UID != 1000, q.GID != 1000, q.Dir != rootfs.Home, q.Hostname != "sandbox", q.Umask != 0o022, q.HostNetwork, q.TimeNS:
		t.Errorf("identity: %+v", q)
	case l.PIDs != defaultPIDs, l.Disk != defaultDisk, l.DiskInodes != defaultInodes, l.Output != defaultOutput, l.Timeout != 0, l.CPUTime != 0, l.FileSize != 0:
		t.Errorf("limits: %+v", l)
	case q.Scratch != spawn.Scratch{Bytes: defaultDisk, Inodes: defaultInodes}, len(q.Filter) == 0, q.Notify:
		t.Errorf("walls: %+v", q.Scratch)
	}
	if m := missing(r); !strings.HasPrefix(m, "memory cpus") {
		t.Errorf("missing %q: defaults that do not hold are listed", m)
	}
	want := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NPROC: defaultPIDs + 1}
	for _, l := range q.Rlimits {
		if v, ok := want[l.Resource]; ok && (l.Soft != v || l.Hard != v) {
			t.Errorf("rlimit %d is %d:%d, want %d", l.Resource, l.Soft, l.Hard, v)
		}
		delete(want, l.Resource)
	}
	if len(want) > 0 {
		t.Errorf("rlimits %v are not set", want)
	}
}

// What somebody wrote is required; best effort lists it instead; a default is only listed.
func TestRequiredAndPreferred(t *testing.T) {
	for _, c := range []struct {
		name string
		spec Spec
		what string
		why  string
	}{
		{"memory", Spec{Limits: Limits{Memory: 1 << 20}}, "memory", errNoCgroup.Error()},
		{"cpus", Spec{Limits: Limits{CPUs: 1}}, "cpus", errNoCgroup.Error()},
		{"cpu time", Spec{Limits: Limits{CPUTime: time.Second}}, "cpu-time", errNoCgroup.Error()},
		{"swap", Spec{Limits: Limits{MemorySwap: 1 << 30}}, "memory-swap", "no memory limit"},
		{"pids of process", Spec{Backend: "process", Limits: Limits{PIDs: 9}}, "pids", errNoCgroup.Error()},
		{"disk of process", Spec{Backend: "process", Limits: Limits{Disk: 1 << 20}}, "disk", "use --backend native"},
		{"inodes of process", Spec{Backend: "process", Limits: Limits{DiskInodes: 9}}, "disk", "use --backend native"},
		{"disk of a writable mount", Spec{Mounts: []rootfs.Mount{{Source: "/", Target: "/d", Writable: true}}, Limits: Limits{Disk: 1 << 20}}, "disk", "whose size sandboxd cannot limit"},
		{"ulimit", Spec{Limits: Limits{Ulimits: []Ulimit{{"nofile", 1, math.MaxInt64}}}}, "ulimit nofile", "CAP_SYS_RESOURCE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Argv = []string{"true"}
			_, err := bare().resolve(c.spec)
			if !errors.Is(err, ErrUnenforceable) || !strings.Contains(err.Error(), c.what) || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("got %v, want a refusal of %q because of %q", err, c.what, c.why)
			}
			c.spec.BestEffort = true
			r, err := bare().resolve(c.spec)
			if err != nil {
				t.Fatalf("best effort: %v", err)
			}
			if m := " " + missing(r) + " "; !strings.Contains(m, " "+c.what+" ") {
				t.Errorf("best effort lists %q, not %q", m, c.what)
			}
		})
	}
}

// Native counts processes without a cgroup, so there the limit is held even where it was asked for.
func TestPIDsWithoutCgroup(t *testing.T) {
	r, err := bare().resolve(Spec{Argv: []string{"true"}, Limits: Limits{PIDs: 9}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.request.Rlimits {
		if l.Resource == unix.RLIMIT_NPROC && l.Hard == 10 { // the init is not the user's
			return
		}
	}
	t.Errorf("rlimits %+v hold no limit on processes", r.request.Rlimits)
}

// What the caller itself may not have is refused at once, and a default gives way to it.
func TestPIDsAboveOwnLimit(t *testing.T) {
	var have, few unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &have); err != nil {
		t.Fatal(err)
	}
	few = unix.Rlimit{Cur: min(have.Cur, 200), Max: min(have.Max, 200)}
	if os.Getenv("SANDBOX_TEST_FEW") == "" { // lowering it is for good, so another process does
		cmd := exec.Command(os.Args[0], "-test.run", "^TestPIDsAboveOwnLimit$")
		cmd.Env = append(os.Environ(), "SANDBOX_TEST_FEW=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &few); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec Spec
		want string // refusal
		pids int64
	}{
		{Spec{}, "", int64(few.Max) - 1},
		{Spec{Limits: Limits{PIDs: 200}}, "own hard limit of 200", 0},
		{Spec{Limits: Limits{PIDs: 4 << 20}}, "4194304 processes and an init are above", 0},
		{Spec{Limits: Limits{PIDs: 4 << 20}, BestEffort: true}, "", int64(few.Max) - 1},
		{Spec{Limits: Limits{PIDs: 199}}, "", 199},
	} {
		c.spec.Argv = []string{"true"}
		r, err := bare().resolve(c.spec)
		switch {
		case c.want != "":
			if !errors.Is(err, ErrUnenforceable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %q", c.spec.Limits, err, c.want)
			}
		case err != nil:
			t.Errorf("%+v: %v", c.spec.Limits, err)
		case r.limits.PIDs != c.pids || !slices.Contains(r.request.Rlimits, spawn.Rlimit{Resource: unix.RLIMIT_NPROC, Soft: uint64(c.pids) + 1, Hard: uint64(c.pids) + 1}):
			t.Errorf("%+v: %d processes, %+v", c.spec.Limits, r.limits.PIDs, r.request.Rlimits)
		}
	}
}

// Where Landlock is the only wall, what its ABI does not hold is missing.
func TestNotScoped(t *testing.T) {
	for _, c := range []struct {
		backend string
		network Network
		abi     int
		own     bool
		want    string
	}{
		{"process", NetNone, 5, false, "landlock(fs.resolve_unix) landlock(scope.abstract_unix_socket) landlock(scope.signal)"},
		{"process", NetNone, 5, true, "landlock(fs.resolve_unix) landlock(scope.abstract_unix_socket)"},
		{"process", NetNone, 6, false, "landlock(fs.resolve_unix)"},
		{"process", NetNone, 9, false, ""},
		{"native", NetNone, 2, false, ""},
		{"native", NetHost, 5, false, "landlock(scope.abstract_unix_socket)"},
		{"native", NetHost, 6, false, ""},
	} {
		r, err := bare().resolve(Spec{Argv: []string{"true"}, Backend: c.backend, Network: c.network})
		if err != nil {
			t.Fatal(err)
		}
		if got := missing(&resolved{missing: r.notScoped(c.abi, c.own)}); got != c.want {
			t.Errorf("%s, network %s, ABI %d, own ids %v: %q, want %q", c.backend, c.network, c.abi, c.own, got, c.want)
		}
	}
	abi, err := landlock.ABI()
	if err != nil {
		hosttest.Lack(t, "Landlock: %v", err)
	}
	for backend, want := range map[string]bool{"native": false, "process": abi < 9} {
		r, err := bare().resolve(Spec{Argv: []string{"true"}, Backend: backend})
		if err != nil || strings.Contains(missing(r), "landlock(") != want {
			t.Errorf("%s: %v, %+v", backend, err, r)
		}
	}
}

// Subordinate ids exist in a user namespace only, which the process backend has not.
func TestSubordinateIDs(t *testing.T) {
	for backend, want := range map[string]bool{"native": true, "process": false} {
		h := bare()
		h.ids = ids{base: 1, count: 2}
		r, err := h.resolve(Spec{Argv: []string{"true"}, Backend: backend})
		if err != nil {
			t.Fatal(err)
		}
		if r.imagine(h); (r.request.Host != nil) != want {
			t.Errorf("%s: ids %+v", backend, r.request.Host)
		}
	}
	for name, c := range map[string]struct {
		spec Spec
		own  bool
	}{
		"host root":        {Spec{}, true},
		"archive":          {Spec{Root: rootfs.Source{Kind: rootfs.Tar, Path: "/x.tar"}}, true},
		"writable archive": {Spec{Root: rootfs.Source{Kind: rootfs.Tar, Path: "/x.tar", Writable: true}}, false},
		"directory":        {Spec{Root: rootfs.Source{Kind: rootfs.Dir, Path: "/"}}, false},
	} {
		h := bare()
		h.ids = ids{base: 1, count: 2}
		c.spec.Argv = []string{"true"}
		r, err := h.resolve(c.spec)
		if err != nil {
			t.Fatal(name, err)
		}
		if r.imagine(h); (r.request.Host.UID != 0) != c.own {
			t.Errorf("%s: ids %+v", name, r.request.Host)
		}
	}
}

func TestUnlimited(t *testing.T) {
	r, err := bare().resolve(Spec{Argv: []string{"true"}, Limits: Limits{
		Memory: Unlimited, CPUs: Unlimited, PIDs: Unlimited, Disk: Unlimited, DiskInodes: Unlimited, Output: Unlimited, FileSize: Unlimited,
		Timeout: Unlimited, CPUTime: Unlimited,
	}})
	if err != nil {
		t.Fatal(err)
	}
	l := r.limits
	if l.Memory != 0 || l.CPUs != 0 || l.PIDs != 0 || l.Disk != 0 || l.Output != 0 || l.FileSize != 0 || l.Timeout != 0 || l.CPUTime != 0 {
		t.Errorf("limits: %+v", l)
	}
	if m := missing(r); strings.Contains(m, "memory") || strings.Contains(m, "cpus") {
		t.Errorf("missing %q: what is switched off is not missing", m)
	}
}

func TestInvalidSpecs(t *testing.T) {
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"no program":     {Spec{}, "no program given"},
		"empty program":  {Spec{Argv: []string{""}}, "no program given"},
		"backend":        {Spec{Backend: "x"}, "want native, process, container, wasm or auto"},
		"mount":          {Spec{Mounts: []rootfs.Mount{{Source: "/etc", Target: "/proc"}}}, "lies in /proc"},
		"relative mount": {Spec{Mounts: []rootfs.Mount{{Source: "etc", Target: "/x"}}}, "is not an absolute path"},
		"writable host":  {Spec{Root: rootfs.Source{Writable: true}}, "always read-only"},
		"network":        {Spec{Network: "bridge"}, "want none or host"},
		"uid":            {Spec{User: &User{-1, 0}}, "out of range"},
		"gid":            {Spec{User: &User{0, math.MaxInt32 + 1}}, "out of range"},
		"hostname":       {Spec{Hostname: "a b"}, "want at most 64"},
		"odd hostname":   {Spec{Hostname: "a\x1b[2J"}, "want at most 64"},
		"hostname, _":    {Spec{Hostname: "a_b"}, "want at most 64"},
		"proc as root":   {Spec{Root: rootfs.Source{Kind: rootfs.Dir, Path: "/proc"}}, "host's processes"},
		"long hostname":  {Spec{Hostname: strings.Repeat("a", 65)}, "want at most 64"},
		"dir":            {Spec{Dir: "x"}, "not absolute"},
		"env":            {Spec{Env: []string{"x"}}, "want KEY=value"},
		"env name":       {Spec{Env: []string{"=x"}}, "want KEY=value"},
		"memory":         {Spec{Limits: Limits{Memory: -2}}, "memory limit of -2"},
		"pids":           {Spec{Limits: Limits{PIDs: -2}}, "process limit of -2"},
		"disk":           {Spec{Limits: Limits{Disk: -2}}, "disk limit of -2"},
		"inodes":         {Spec{Limits: Limits{DiskInodes: -2}}, "inode limit of -2"},
		"output":         {Spec{Limits: Limits{Output: -2}}, "output limit of -2"},
		"file size":      {Spec{Limits: Limits{FileSize: -2}}, "file size limit of -2"},
		"cpus":           {Spec{Limits: Limits{CPUs: math.NaN()}}, "want 0.001 to 10000"},
		"negative cpus":  {Spec{Limits: Limits{CPUs: -2}}, "want 0.001 to 10000"},
		"many cpus":      {Spec{Limits: Limits{CPUs: math.Inf(1)}}, "want 0.001 to 10000"},
		"timeout":        {Spec{Limits: Limits{Timeout: -2}}, "is negative"},
		"cpu time":       {Spec{Limits: Limits{CPUTime: -2}}, "is negative"},
		"cpuset":         {Spec{Limits: Limits{CPUSet: "x"}}, "numbers and ranges"},
		"ulimit name":    {Spec{Limits: Limits{Ulimits: []Ulimit{{"x", 1, 1}}}}, "is not known"},
		"ulimit order":   {Spec{Limits: Limits{Ulimits: []Ulimit{{"nofile", 2, 1}}}}, "exceeds the hard one"},
		"ulimit no end":  {Spec{Limits: Limits{Ulimits: []Ulimit{{"nofile", -1, 1}}}}, "exceeds the hard one"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.spec.Argv == nil && !strings.Contains(name, "program") {
				c.spec.Argv = []string{"true"}
			}
			if _, err := bare().resolve(c.spec); !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an invalid spec with %q", err, c.want)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	r, err := bare().resolve(Spec{Argv: []string{"true"}, Env: []string{"A=1", "HOME=/x", "A=2", "LANG="}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(r.request.Env, " "), "PATH="+rootfs.Path+" USER=sandbox HOME=/x A=2 LANG="; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseCPUs(t *testing.T) {
	for in, want := range map[string]string{"0": "[0]", "0,2-3": "[0 2 3]", " 1 , 2 ": "[1 2]", "5-5": "[5]"} {
		if got, err := parseCPUs(in); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-1", "1-", "3-1", "0,,1", "1024", "0-99999999999"} {
		if got, err := parseCPUs(in); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
}

// The table of reasons: what the supervisor did comes first, then what the
// kernel counted, then how the program ended.
func TestVerdict(t *testing.T) {
	exited := func(code int) spawn.Exit { return spawn.Exit{Status: syscall.WaitStatus(code << 8), Reported: true} }
	killed := func(s syscall.Signal) spawn.Exit { return spawn.Exit{Status: syscall.WaitStatus(s), Reported: true} }
	limits := Limits{Memory: 64 << 20, PIDs: 9, Disk: 1 << 20, DiskInodes: 5, FileSize: 1, Ulimits: []Ulimit{{"cpu", 1, 1}}}
	for name, c := range map[string]struct {
		exit   spawn.Exit
		err    error
		why    Reason
		events cgroup.Events
		full   bool
		limits *Limits // nil: all
		code   int
		signal string
		reason Reason
	}{
		"well":                        {exit: exited(0), reason: Exited},
		"its own code":                {exit: exited(42), code: 42, reason: Exited},
		"its own 137":                 {exit: exited(137), code: 137, reason: Exited},
		"signal":                      {exit: killed(syscall.SIGTERM), code: 143, signal: "SIGTERM", reason: Signaled},
		"kill of unknown origin":      {exit: killed(syscall.SIGKILL), code: 137, signal: "SIGKILL", reason: Signaled},
		"timeout":                     {exit: killed(syscall.SIGKILL), why: Timeout, code: 124, signal: "SIGKILL", reason: Timeout},
		"timeout beats oom":           {exit: killed(syscall.SIGKILL), why: Timeout, events: cgroup.Events{OOMKills: 1}, code: 124, signal: "SIGKILL", reason: Timeout},
		"cancelled":                   {exit: killed(syscall.SIGKILL), why: Cancelled, code: 137, signal: "SIGKILL", reason: Cancelled},
		"cpu time":                    {exit: killed(syscall.SIGKILL), why: CPUTime, code: 137, signal: "SIGKILL", reason: CPUTime},
		"output":                      {exit: killed(syscall.SIGKILL), why: Output, code: 137, signal: "SIGKILL", reason: Output},
		"syscall":                     {exit: killed(syscall.SIGKILL), why: Syscall, code: 159, signal: "SIGSYS", reason: Syscall},
		"filter of its own":           {exit: killed(syscall.SIGSYS), code: 159, signal: "SIGSYS", reason: Signaled},
		"launcher died":               {exit: killed(syscall.SIGKILL), err: launcher.ErrLost, code: 125, reason: Lost},
		"oom":                         {exit: killed(syscall.SIGKILL), events: cgroup.Events{OOMKills: 1}, code: 137, signal: "SIGKILL", reason: OOM},
		"oom of a child":              {exit: exited(1), events: cgroup.Events{OOMKills: 1}, code: 1, reason: OOM},
		"oom survived":                {exit: exited(0), events: cgroup.Events{OOMKills: 1}, reason: Exited},
		"kill of itself at the limit": {exit: killed(syscall.SIGKILL), events: cgroup.Events{MemoryMax: 3}, code: 137, signal: "SIGKILL", reason: Signaled},
		"its own 137 at the limit":    {exit: exited(137), events: cgroup.Events{MemoryMax: 3}, code: 137, reason: Exited},
		"failed at the memory limit":  {exit: exited(1), events: cgroup.Events{MemoryMax: 3}, code: 1, reason: Exited},
		"pids":                        {exit: exited(1), events: cgroup.Events{PIDsMax: 2}, code: 1, reason: PIDs},
		"pids survived":               {exit: exited(0), events: cgroup.Events{PIDsMax: 2}, reason: Exited},
		"disk":                        {exit: exited(1), full: true, code: 1, reason: Disk},
		"disk full, but well":         {exit: exited(0), full: true, reason: Exited},
		"file too large":              {exit: killed(syscall.SIGXFSZ), code: 153, signal: "SIGXFSZ", reason: Disk},
		"cpu ulimit":                  {exit: killed(syscall.SIGXCPU), code: 152, signal: "SIGXCPU", reason: CPUTime},
		"init ended without a word":   {exit: spawn.Exit{Status: syscall.WaitStatus(1 << 8)}, code: 125, reason: Lost},
		"init was killed from afar":   {exit: spawn.Exit{Status: syscall.WaitStatus(syscall.SIGKILL)}, code: 137, signal: "SIGKILL", reason: Signaled},
		"oom beats a full disk":       {exit: exited(1), full: true, events: cgroup.Events{OOMKills: 1}, code: 1, reason: OOM},
		"full disk beats pids":        {exit: exited(1), full: true, events: cgroup.Events{PIDsMax: 1}, code: 1, reason: Disk},
		"signal beats a full disk":    {exit: killed(syscall.SIGXCPU), full: true, code: 152, signal: "SIGXCPU", reason: CPUTime},
		"killed without memory limit": {exit: killed(syscall.SIGTERM), events: cgroup.Events{MemoryMax: 1}, code: 143, signal: "SIGTERM", reason: Signaled},
		"SIGXFSZ without a limit":     {exit: killed(syscall.SIGXFSZ), limits: &Limits{}, code: 153, signal: "SIGXFSZ", reason: Signaled},
		"SIGXCPU without a limit":     {exit: killed(syscall.SIGXCPU), limits: &Limits{}, code: 152, signal: "SIGXCPU", reason: Signaled},
		"oom of the host":             {exit: killed(syscall.SIGKILL), limits: &Limits{}, events: cgroup.Events{OOMKills: 1}, code: 137, signal: "SIGKILL", reason: OOM},
	} {
		t.Run(name, func(t *testing.T) {
			if c.limits == nil {
				c.limits = &limits
			}
			got := verdict(c.exit, c.err, c.why, "note", c.events, c.full, c.limits)
			if got.Code != c.code || got.Signal != c.signal || got.Reason != c.reason {
				t.Errorf("got %+v, want code %d, signal %q, reason %s", got, c.code, c.signal, c.reason)
			}
			if got.Reason != Exited && got.Reason != Signaled && got.Detail == "" {
				t.Errorf("%s without a detail", got.Reason)
			}
		})
	}
}

func TestSpawnFailure(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
	}{
		"ours":         {errors.New("x"), 125},
		"another step": {&spawn.StepError{Step: plan.Chdir, Errno: syscall.ENOENT}, 125},
		"not found":    {fmt.Errorf("start: %w", &spawn.StepError{Step: plan.Exec, Errno: syscall.ENOENT}), 127},
		"not runnable": {&spawn.StepError{Step: plan.Exec, Errno: syscall.EACCES}, 126},
	} {
		r := SpawnFailure(&Spec{Argv: []string{"/bin/prog"}}, c.err)
		if r.Exit.Code != c.code || r.Exit.Reason != SpawnFailed || r.Actor.Name != "prog" || r.Backend != "native" || r.Isolation.Enforced == nil || r.Isolation.Missing == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 bytes", 1024: "1 KiB", 64 << 20: "64 MiB", 3 << 30: "3 GiB", 1<<20 + 1: "1048577 bytes"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
