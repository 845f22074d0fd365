package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sandboxd/spawn"
)

// say makes a finding of an answer: ok where it is empty, else bad.
func say(name string, a Answer, bad State, good, why string, unlocks ...string) []Finding {
	f := Finding{Name: name, State: OK, Observed: good, Why: why, Unlocks: unlocks}
	if !a.ok() {
		f.State, f.Observed, f.Fix = bad, a.Observed, a.Remedy
	}
	if a.Untried {
		f.State = Info
	}
	return []Finding{f}
}

// kernels are what each version brings.
var kernels = []struct {
	major, minor int
	state        State
	lacks        string
	unlocks      []string
}{
	{5, 12, Missing, "the mount calls that the native backend is made of", []string{"native"}},
	{5, 13, Weak, "Landlock, the second wall around files", []string{"landlock"}},
	{5, 19, Weak, "id-mapped layers, which --root DIR --writable takes as root, and --seccomp kill", []string{"--writable", "--seccomp kill"}},
	{6, 12, Weak, "Landlock's walls around signals and abstract sockets", []string{"landlock ABI 6"}},
}

func kernel(f *Facts) []Finding {
	x := Finding{Name: "kernel", State: OK, Observed: f.Kernel, Why: "each kernel release brings walls of its own", Unlocks: []string{"native"}}
	major, minor := version(f.Kernel)
	for _, k := range kernels {
		if major < k.major || major == k.major && minor < k.minor {
			x.State, x.Why = k.state, "a kernel before "+fmt.Sprintf("%d.%d", k.major, k.minor)+" lacks "+k.lacks
			x.Unlocks = k.unlocks
			x.Fix = "boot a kernel of 6.12 or later"
			break
		}
	}
	return []Finding{x}
}

// version is 0.0 where the release does not tell.
func version(release string) (major, minor int) {
	a, rest, _ := strings.Cut(release, ".")
	b := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		b = rest[:i]
	}
	major, _ = strconv.Atoi(a)
	minor, _ = strconv.Atoi(b)
	return major, minor
}

func place(f *Facts) []Finding {
	observed := f.Place
	if observed == "" {
		observed = "no container that we know of"
	}
	who := fmt.Sprintf("uid %d, privileged", f.UID)
	if !f.Privileged {
		who = fmt.Sprintf("uid %d, not privileged", f.UID)
	}
	return []Finding{{Name: "place", State: Info, Observed: observed + "; " + who, Why: "containers and WSL refuse some of what a plain host allows; root gets limits and ids that an ordinary user does not"}}
}

func lease(f *Facts) []Finding {
	return say("lease", f.Lease, Missing, "a lease was taken and given back", "a lease keeps the ids and cgroups of two supervisors apart", "native", "process")
}

// whys say what a feature is good for.
var whys = map[spawn.Feature]string{
	spawn.UserNS: "inside, the program may be any user, and on the host it is nobody", spawn.PIDNS: "the program sees and signals its own processes only",
	spawn.MountNS: "the program sees the files that you let in, no others", spawn.NetNS: "no network but loopback",
	spawn.UTSNS: "the host's name stays hidden", spawn.IPCNS: "no shared memory with the host's programs", spawn.CgroupNS: "the host's cgroups stay hidden",
	spawn.TimeNS: "--time-ns: how long the host has been up stays hidden", spawn.PivotRoot: "the host's root is gone from view",
	spawn.ReadOnlyRoot: "the program cannot change system files", spawn.NoNewPrivs: "set-user-id programs gain nothing",
	spawn.NoCapabilities: "root inside is not root", spawn.Filter: "the kernel's rarer system calls are out of reach",
	spawn.Landlock: "a second wall around files, should a mount be wrong", spawn.TwoIDs: "the program is another user than its init, and than other actors",
	spawn.DiskLimit: "--disk holds", spawn.Terminal: "-t gives the program a terminal", spawn.KillWhole: "killing an actor leaves nothing of it",
	spawn.PeerSocket: "a program may connect to its supervisor", spawn.WASI: "WebAssembly programs run",
	spawn.Fuel: "a program that computes for ever is ended after so many instructions",
	spawn.VMM:  "a machine of the actor's own", spawn.GuestKernel: "a bug of its kernel is a bug of the actor's own",
	spawn.Kernel: "system calls are answered by a kernel of its own, not by the host's",
}

// refusals are why a backend starts nothing at all.
var refusals = map[spawn.Feature]string{
	spawn.Helper: "what takes much to link is in a program of its own", spawn.Rootless: "libcontainer as an ordinary user takes subordinate ids",
}

// flags need an optional feature.
var flags = map[spawn.Feature]string{spawn.TimeNS: "--time-ns", spawn.Terminal: "-t"}

// matrix is every feature with what became of it on every backend.
func matrix(f *Facts) (rows []Ability) {
	for _, feature := range slices.Sorted(maps.Keys(whys)) {
		held := map[string]State{}
		for name, answers := range f.Backends {
			switch a, known := answers[string(feature)]; {
			case !known:
			case a.ok():
				held[name] = OK
			case slices.Contains(spawn.Optional, feature):
				held[name] = Weak
			default:
				held[name] = Missing
			}
		}
		if len(held) > 0 {
			rows = append(rows, Ability{string(feature), whys[feature], held})
		}
	}
	return rows
}

func backends(f *Facts) []Finding {
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(f.Backends)) {
		answers := f.Backends[name]
		for _, feature := range slices.Sorted(maps.Keys(answers)) {
			key := spawn.Feature(feature)
			bad, unlocks := Missing, name
			if slices.Contains(spawn.Optional, key) {
				bad = Weak
				if flag := flags[key]; flag != "" {
					unlocks = flag
				}
			}
			all = append(all, say(name+"/"+feature, answers[feature], bad, "works", whys[key]+refusals[key], unlocks)...)
		}
	}
	return all
}

// controllerWhys say what each controller is good for.
var controllerWhys = map[string][2]string{
	"memory":            {"memory of everything in an actor together", "--memory"},
	"pids":              {"processes and threads of an actor; without it, native counts them by RLIMIT_NPROC and process cannot", "--pids-limit"},
	"cpu":               {"CPU bandwidth", "--cpus"},
	"cpu time":          {"CPU time of everything in an actor together", "--cpu-time"},
	"io":                {"bytes read and written, in the report only", "usage.io_*_bytes"},
	"cgroup2 directory": {"a kill that no process can outrun, for the process backend", "process"},
}

func cgroups(f *Facts) []Finding {
	all := []Finding{{
		Name: "cgroup", State: Info, Observed: "mode " + f.CgroupMode, Why: "limits on a whole actor are held by cgroups; hybrid is v1 controllers beside a v2 mount",
	}}
	for _, c := range controllers {
		a, known := f.Cgroups[c.String()]
		if !known {
			continue
		}
		w := controllerWhys[c.String()]
		all = append(all, say("cgroup/"+strings.ReplaceAll(c.String(), " ", "-"), a, Weak, "works", w[0], w[1])...)
	}
	return all
}

func landlocked(f *Facts) []Finding {
	x := say("landlock", f.NoLandlock, Weak, fmt.Sprintf("ABI %d", f.Landlock), "the second wall around files; from ABI 4 also TCP, from 6 also signals", "native", "process")
	if x[0].State == OK && f.Landlock < 6 {
		x[0].State, x[0].Fix = Weak, "boot a kernel of 6.12 or later"
	}
	return x
}

func filters(f *Facts) []Finding {
	var a Answer
	for _, action := range []string{"errno", "user_notif"} {
		if !slices.Contains(f.Seccomp, action) {
			a = Answer{Observed: "the kernel does not list " + action, Remedy: "boot a kernel of 5.0 or later with CONFIG_SECCOMP_FILTER"}
			break
		}
	}
	all := say("seccomp", a, Missing, strings.Join(f.Seccomp, " "), "refuses the system calls that programs have no use for", "native", "process")
	return append(all, say("seccomp/notify", f.Notify, Weak, "works", "tells the supervisor which forbidden call was made", "--seccomp kill")...)
}
