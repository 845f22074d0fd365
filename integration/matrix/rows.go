package main

import (
	"slices"
	"strings"
)

// layout is what a guest is: a kernel, a cgroup layout, and who runs the tests.
type layout struct{ kernel, cgroup, as string }

func (l layout) String() string { return l.kernel + " " + l.cgroup + " " + l.as }

// row is one guest: the tests of one package in one layout.
type row struct {
	layout
	pkg string // below the module
	run string // -run; "": all
}

func (r row) name() string {
	return r.kernel + "-" + r.cgroup + "-" + r.as + "-" + strings.ReplaceAll(r.pkg, "/", "-")
}

// layouts are what the matrix crosses with the packages. Hybrid is as root
// alone: there an ordinary user has what it has without cgroups.
func layouts() (all []layout) {
	for _, kernel := range []string{"6.1", "6.12", "7.3"} {
		all = append(all, layout{kernel, "v2", "root"}, layout{kernel, "v2", "user"}, layout{kernel, "hybrid", "root"})
	}
	return all
}

var (
	root   = layout{"6.1", "v2", "root"}
	user   = layout{"6.1", "v2", "user"}
	hybrid = layout{"6.1", "hybrid", "root"}
	newer  = layout{"6.12", "v2", "root"}
)

// smoke is the slice that runs with every change: what differs by layout, in
// the packages that deal with it, and of the attacks the short ones. The long
// rows come first, so that two workers end together.
var smoke = []row{
	{user, "integration", "^(TestMemory|TestPIDs|TestCPUTime|TestCPUs|TestTimeout|TestNothingIsInherited|TestProcessBackend|TestKilledSupervisorLeavesNothing|TestForeignStateSurvives)$"},
	{root, "integration", "^(TestMemory|TestMemoryOfAChild|TestPIDs|TestCPUTime|TestCPUs|TestForbiddenCalls|TestProcessBackend|TestNetwork|TestKilledLauncherIsTold|TestLeakCheckSeesWhatAKillLeaves)$"},
	{hybrid, "integration", "^(TestMemory|TestPIDs|TestCPUTime|TestKilledSupervisorLeavesNothing)$"},
	{newer, "integration", "^(TestForbiddenCalls|TestProcessBackend|TestNetwork|TestInitIsOutOfReach|TestSeccompKill|TestMemory)$"},
	{root, "sandbox", ""},
	{user, "sandbox", ""},
	{root, "spawn/native", "^(TestRoots|TestHostileRoots|TestMounts|TestMountsBelow|TestFilesAs|TestAttacksOnInit|TestNetns)$"},
	{root, "spawn/container", "^(TestDeviceRules|TestRoots|TestCgroupsStayOurs)$"},
	{user, "sandbox/cgroup", ""},
	{root, "sandbox/cgroup", ""},
	{hybrid, "sandbox/cgroup", ""},
	{newer, "spawn/native", "^(TestRoots|TestMounts|TestAttacksOnInit|TestTimeNamespace)$"},
	{newer, "namespaces/landlock", ""},
}

// alike are the packages whose tests neither the kernel nor the layout can
// change: no namespace, cgroup, credential or filter is behind them.
var alike = []string{"cmd/sandboxd/internal/bench", "ipc/codec", "ipc/session", "ipc/wire", "namespaces/seccomp/internal/gen", "spawn/plan"}

// everything is every package in every layout, and those that are alike in one.
func everything(packages []string) (rows []row) {
	for _, l := range layouts() {
		for _, p := range packages {
			if l == root || !slices.Contains(alike, p) {
				rows = append(rows, row{l, p, ""})
			}
		}
	}
	return rows
}
