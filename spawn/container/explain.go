package container

import (
	"slices"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Explain compiles r as Start would, without executing any of it. What is drawn
// anew for each spawn, the nonce, stands in as zeros. Of r's descriptors only
// their number counts; they may be nil inside their slices.
func (b *Backend) Explain(r *spawn.Request) ([]plan.Section, error) {
	with := *r
	if with.Cgroup != nil { // see withCgroup
		with.Tasks = append(slices.Clip(with.Tasks), nil)
	}
	before, err := before(&with, spawn.Identity{Actor: r.ID, Epoch: 1})
	if err != nil {
		return nil, err
	}
	after, err := spawn.Program(&with)
	if err != nil {
		return nil, err
	}
	return []plan.Section{
		{Name: "setup", Runs: "nothing: each container has a root of its own", Steps: []plan.Step{}},
		{Name: "prepare", Runs: "by libcontainer, in the helper sandboxd-container: user, pid, mount, uts, ipc and network namespaces, the root, masked and read-only paths; not a list of steps of ours", Steps: []plan.Step{}},
		{Name: "before", Runs: "by the minimal init, process 1 of the container, and from fork on by the program's own process, which is confined while the supervisor finds out who said hello", Steps: before},
		{Name: "after", Runs: "by the program's own process, once the supervisor knows who said hello", Steps: after},
	}, nil
}
