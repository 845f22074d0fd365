package cgroup

import (
	"path"
	"strings"
	"testing"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
)

// What another library reads of a leaf is what we set and what we report.
func TestOracle(t *testing.T) {
	need := all3 | CPUTime
	tree := realTree(t, need)
	l := mustLeaf(t, tree, "seen", Limits{Memory: 64 << 20, PIDs: 12, CPUMilli: 50, Account: need})
	start(t, l, "", "/bin/sh", "-c", "sleep 1000 & while :; do :; done")
	eventually(t, "it is throttled", func() bool { return wantEvents(t, l).Throttled > 0 })
	if err := l.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := l.WaitEmpty(within(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the timer of the CPU limit counts no more", func() bool { // it outlives the last process by a period
		before := wantEvents(t, l)
		time.Sleep(250 * time.Millisecond)
		return wantEvents(t, l) == before
	})
	for _, p := range l.places {
		if p.unified {
			seen(t, l, p)
		} else {
			seenV1(t, l, p)
		}
	}
}

func seenV1(t *testing.T, l *Leaf, p *place) {
	t.Helper()
	var name string
	for _, n := range controllerNames {
		if p.has&n.bit != 0 {
			name = n.v1
			break
		}
	}
	var root string
	for _, h := range l.tree.host.v1 {
		if h.has == p.has {
			root = h.root
		}
	}
	only := func() ([]cgroup1.Subsystem, error) {
		all, err := cgroup1.Default()
		var one []cgroup1.Subsystem
		for _, s := range all {
			if string(s.Name()) == name {
				one = append(one, s)
			}
		}
		return one, err
	}
	group := strings.TrimPrefix(path.Join(p.abs, l.name), root)
	c, err := cgroup1.Load(cgroup1.StaticPath(group), cgroup1.WithHierarchy(only))
	if err != nil {
		t.Fatalf("the oracle does not see %s of %s: %v", name, group, err)
	}
	m, err := c.Stat(cgroup1.IgnoreNotExist)
	if err != nil {
		t.Fatal(err)
	}
	u, err := l.Usage()
	if err != nil {
		t.Fatal(err)
	}
	e := wantEvents(t, l)
	switch name {
	case "memory":
		same(t, "memory limit", m.Memory.Usage.Limit, 64<<20)
		same(t, "memory+swap limit", m.Memory.Swap.Limit, 64<<20)
		same(t, "memory peak", m.Memory.Usage.Max, uint64(u.MemoryPeak))
		same(t, "memory failures", m.Memory.Usage.Failcnt+m.Memory.Swap.Failcnt, uint64(e.MemoryMax))
		same(t, "OOM kills", m.MemoryOomControl.OomKill, uint64(e.OOMKills))
	case "pids":
		same(t, "pids limit", m.Pids.Limit, 12)
	case "cpu":
		same(t, "throttled periods", m.CPU.Throttling.ThrottledPeriods, uint64(e.Throttled))
		same(t, "throttled time", m.CPU.Throttling.ThrottledTime, uint64(e.ThrottleTime))
	case "cpuacct":
		same(t, "CPU time", m.CPU.Usage.Total, uint64(u.CPU))
	default:
		t.Errorf("joined %s, which nobody asked for", name)
	}
}

func seen(t *testing.T, l *Leaf, p *place) {
	t.Helper()
	root := l.tree.host.v2.root
	c, err := cgroup2.Load(strings.TrimPrefix(path.Join(p.abs, l.name), root), cgroup2.WithMountpoint(root))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Stat()
	if err != nil {
		t.Fatal(err)
	}
	u, err := l.Usage()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "CPU time", m.CPU.UsageUsec, uint64(u.CPU/time.Microsecond))
	same(t, "user CPU time", m.CPU.UserUsec, uint64(u.CPUUser/time.Microsecond))
	if p.has&Memory != 0 {
		same(t, "memory limit", m.Memory.UsageLimit, 64<<20)
		same(t, "swap limit", m.Memory.SwapLimit, 0)
		same(t, "memory peak", m.Memory.MaxUsage, uint64(u.MemoryPeak))
		same(t, "OOM kills", m.MemoryEvents.OomKill, uint64(wantEvents(t, l).OOMKills))
	}
	if p.has&PIDs != 0 {
		same(t, "pids limit", m.Pids.Limit, 12)
	}
	if p.has&CPU != 0 {
		same(t, "throttled periods", m.CPU.NrThrottled, uint64(wantEvents(t, l).Throttled))
	}
}

func same(t *testing.T, what string, oracle, ours uint64) {
	t.Helper()
	if oracle != ours {
		t.Errorf("%s: the oracle says %d, we say %d", what, oracle, ours)
	}
}
