package cgroup

import (
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	v1Mounts = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/my\040pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
`
	v2Hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	v1Self   = "9:name=systemd:/init.scope\n8:pids:/a\n4:memory:/a/b\n1:cpu,cpuacct:/\n"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		mounts, self string
		v1           []string // own directories
		v2           string
	}{
		"none": {"22 27 0:21 / /proc rw - proc proc rw\n", "", nil, ""},
		"v1":   {v1Mounts, v1Self, []string{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/my pids/a"}, ""},
		"hybrid": {
			v1Mounts + v2Hybrid, v1Self + "0::/u\n",
			[]string{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/my pids/a"},
			"/sys/fs/cgroup/unified/u",
		},
		"unified": {"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", "0::/user.slice/x.scope\n", nil, "/sys/fs/cgroup/user.slice/x.scope"},
		"container without a namespace": {
			"30 23 0:26 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "4:memory:/docker/c1/sub\n",
			[]string{"/sys/fs/cgroup/memory/sub"},
			"",
		},
		"a mount of elsewhere":     {"30 23 0:26 /docker/c1 /m rw - cgroup2 c rw\n", "0::/docker/c11\n", nil, ""},
		"outside of the namespace": {"30 23 0:26 / /m rw - cgroup2 c rw\n", "0::/../other\n", nil, ""},
		"mounted from outside":     {"30 23 0:26 /../.. /m rw - cgroup2 c rw\n", "0::/\n", nil, ""},
		"second mount":             {"30 23 0:26 /x /m rw - cgroup2 c rw\n31 23 0:26 / /n rw - cgroup2 c rw\n32 23 0:26 / /o rw - cgroup2 c rw\n", "0::/y\n", nil, "/n/y"},
		"garbage":                  {"x - cgroup\n - cgroup2 \n1 2 3 / /m rw - cgroupx c memory\n1 2 3 / /m rw - cgroup\n", "0::/\n:::\nmemory\n", nil, ""},
	} {
		h := parse(c.mounts, c.self)
		var v1 []string
		for _, hier := range h.v1 {
			v1 = append(v1, hier.own)
		}
		v2 := ""
		if h.v2 != nil {
			v2 = h.v2.own
		}
		mode := map[[2]bool]string{{false, false}: "none", {true, false}: "v1", {false, true}: "v2", {true, true}: "hybrid"}[[2]bool{c.v1 != nil, c.v2 != ""}]
		if h.Mode() != mode {
			t.Errorf("%s: mode %s, want %s", name, h.Mode(), mode)
		}
		if !slices.Equal(v1, c.v1) || v2 != c.v2 {
			t.Errorf("%s: v1 %q, v2 %q, want %q, %q", name, v1, v2, c.v1, c.v2)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(v1Mounts+v2Hybrid, v1Self)
	f.Fuzz(func(t *testing.T, mounts, self string) {
		for _, hier := range parse(mounts, self).v1 {
			if !path.IsAbs(hier.own) && path.IsAbs(hier.root) {
				t.Errorf("relative: %+v", hier)
			}
			if hier.has == 0 {
				t.Errorf("a hierarchy for nothing: %+v", hier)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	for _, l := range []Limits{
		{Memory: -1},
		{Memory: 4095},
		{PIDs: -1},
		{PIDs: 4<<20 + 1},
		{CPUMilli: -1},
		{CPUMilli: 1 << 40},
		{MemorySwap: 1 << 20},
		{MemorySwap: -1},
		{Memory: 2 << 20, MemorySwap: 1 << 20},
		{Memory: 1 << 20, MemorySwap: -2},
	} {
		if l.Check() == nil {
			t.Errorf("limits %+v pass", l)
		}
	}
	for _, name := range []string{"", ".", "..", ".x", "a/b", "a b", "a\n", "ä", strings.Repeat("x", 129)} {
		if checkName("leaf", name) == nil {
			t.Errorf("name %q passes", name)
		}
	}
	for _, name := range []string{"a", "A-1_b.c", strings.Repeat("x", 128)} {
		if err := checkName("leaf", name); err != nil {
			t.Error(err)
		}
	}
}
