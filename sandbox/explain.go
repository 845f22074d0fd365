package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"sandboxd/namespaces"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/spawn/plan"
)

// ExplainSchema versions the JSON form of Explanation.
const ExplainSchema = "sandboxd.explain/v1"

// Explanation is what starting a Spec would do on this host.
type Explanation struct {
	Schema   string         `json:"schema"`
	Backend  string         `json:"backend"`
	Choice   Choice         `json:"choice"` // why that backend
	Argv     []string       `json:"argv"`
	Root     string         `json:"root"`    // host, scratch, dir or tar
	Network  string         `json:"network"` // none or host
	Limits   []Limit        `json:"limits"`
	Missing  []Missing      `json:"missing"`
	Sections []plan.Section `json:"sections"`
}

// Limit is one limit, resolved.
type Limit struct {
	Name  string `json:"name"`  // as Report.Isolation names it
	Value string `json:"value"` // for people; "" where there is none
	State string `json:"state"` // required, preferred, default, off or missing
	By    string `json:"by"`    // who enforces it; "" where nobody does
}

// Explain says what Start would do with s, as this user on this host. It takes
// no lease, starts nothing and writes nothing, so the actor's number and host
// ids are those of the first actor of the first lease. Its errors are Start's.
func Explain(s Spec, o Options) (*Explanation, error) {
	h := &Host{one: o.Only != nil, looks: true}
	var sub native.Options
	var err error
	if namespaces.Privileged() {
		h.ids = ids{base: firstID, count: idsPerLease / 2}
	} else {
		if sub.SubUIDs, sub.SubGIDs, err = namespaces.SubIDs(); err != nil {
			return nil, err
		}
		h.ids = ids{base: 1, count: min(sub.SubUIDs.Count, sub.SubGIDs.Count) / 2}
	}
	h.backends = backends(sub, o)
	h.cgroups, h.noCgroup = cgroup.Detect()
	r, err := h.resolve(s)
	if err != nil {
		return nil, err
	}
	r.imagine(h)
	e := &Explanation{
		Schema: ExplainSchema, Backend: r.backend.Name(), Choice: r.choice, Argv: s.Argv, Root: s.Root.Kind.String(), Network: s.network(),
		Limits: r.explainLimits(h), Missing: append([]Missing{}, r.missing...),
	}
	e.Sections, err = r.backend.(explainer).Explain(&r.request)
	return e, err
}

// explainer is every backend of ours.
type explainer interface {
	Explain(*spawn.Request) ([]plan.Section, error)
}

// imagine fills in what Start takes from the host for each actor.
func (r *resolved) imagine(h *Host) {
	q := &r.request
	q.ID = "0.1"
	if r.ownIDs(h) {
		q.Host = r.hostIDs(h, 0)
	}
	if !r.namespaced() {
		q.Private = filepath.Join(privateDir(0), q.ID)
		if r.spec.Dir == "" {
			q.Dir = q.Private
		}
		q.Env = append([]string{"TMPDIR=" + q.Private}, replaceEnv(q.Env, "HOME", q.Private)...)
	}
	if r.cgroup != (cgroup.Limits{}) {
		tasks, unified := h.cgroups.Ways(r.cgroup)
		q.Tasks = make([]*os.File, tasks)
		if unified {
			q.Cgroup = new(os.File) // only its presence counts
		}
	}
	if r.spec.ReadBack || r.spec.SeccompKill {
		q.Inspect = func(int, *os.File) error { return nil }
	}
}

// explainLimits lists every limit in the order of the flags.
func (r *resolved) explainLimits(h *Host) []Limit {
	want, have, c := &r.spec.Limits, &r.limits, &r.cgroup
	var all []Limit
	add := func(name, value string, written, off bool, by string) {
		l := Limit{Name: name, Value: value, State: "default", By: by}
		switch {
		case off && r.lacks(name):
			l.State, l.Value, l.By = "missing", "", ""
		case off:
			l.State, l.Value, l.By = "off", "", ""
		case written && r.spec.BestEffort:
			l.State = "preferred"
		case written:
			l.State = "required"
		}
		all = append(all, l)
	}
	group := func(c cgroup.Controller, file string) string {
		if h.noCgroup == nil && h.cgroups.V1(c) {
			return "cgroup v1, " + c.String()
		}
		return "cgroup v2, " + file
	}
	add("memory", size(have.Memory), want.Memory > 0, have.Memory == 0, group(cgroup.Memory, "memory.max"))
	swap, swapBy := "no swap", group(cgroup.Memory, "memory.swap.max")
	switch {
	case want.MemorySwap == Unlimited:
		swap = "swap is not limited"
	case want.MemorySwap > 0:
		swap = size(want.MemorySwap) + " with memory"
	}
	add("memory-swap", swap, want.MemorySwap > 0, have.Memory == 0 || want.MemorySwap == Unlimited, swapBy)
	add("cpus", strconv.FormatFloat(have.CPUs, 'g', 4, 64), want.CPUs > 0, have.CPUs == 0, group(cgroup.CPU, "cpu.max"))
	add("cpuset-cpus", have.CPUSet, true, have.CPUSet == "", "CPU affinity, which seccomp then forbids to change")
	add("cpu-time", have.CPUTime.String(), true, have.CPUTime == 0, "sandboxd, from the cgroup's count")
	add("timeout", have.Timeout.String(), true, have.Timeout == 0, "sandboxd's clock")
	pidsBy := group(cgroup.PIDs, "pids.max")
	switch {
	case r.foreign():
		by := "cgroup v2"
		if r.userKernel() {
			by = "RLIMIT_NPROC"
		}
		pidsBy = by + " in its own kernel, which " + pidsBy + " holds to " + strconv.FormatInt(c.PIDs, 10) + " of the host's"
	case c.PIDs == 0:
		pidsBy = "RLIMIT_NPROC in the actor's user namespace"
	}
	add("pids", strconv.FormatInt(have.PIDs, 10), want.PIDs > 0, have.PIDs == 0, pidsBy)
	for _, l := range r.request.Rlimits {
		name := ulimitName(l.Resource)
		written := want.ulimit(name)
		if !written && name != "core" && name != "nofile" {
			continue // it stands for another limit
		}
		add("ulimit "+name, fmt.Sprintf("%s:%s", rlim(l.Soft), rlim(l.Hard)), written, false, "setrlimit(2)")
	}
	add("file-size", size(have.FileSize), want.FileSize > 0, have.FileSize == 0, "RLIMIT_FSIZE")
	by := "size of the private tmpfs"
	if r.lacks("disk") {
		by += "; writable mounts are not limited"
	}
	add("disk", size(have.Disk), want.Disk > 0, have.Disk == 0 || !r.namespaced(), by)
	add("disk-inodes", strconv.FormatInt(have.DiskInodes, 10), want.DiskInodes > 0, have.DiskInodes == 0 || !r.namespaced(), by)
	add("output-limit", size(have.Output), want.Output > 0, have.Output == 0, "sandboxd, which counts what it passes on")
	return all
}

func ulimitName(resource int) string {
	for _, u := range ulimits {
		if u.resource == resource {
			return u.name
		}
	}
	return strconv.Itoa(resource)
}

func rlim(v uint64) string {
	if v == ^uint64(0) {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}
