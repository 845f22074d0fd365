package native

import (
	"errors"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Explain compiles r as Start would, without executing any of it. What is drawn
// anew for each spawn, the nonce and the name of the socket, stands in as zeros.
// Of r's descriptors only their number counts; they may be nil inside their slices.
func (b *Backend) Explain(r *spawn.Request) ([]plan.Section, error) {
	if !b.rootless && r.Host == nil {
		return nil, errors.New("native: as root an actor needs host ids of its own; Request.Host is nil")
	}
	t := b.template(r)
	setup, err := t.setup(false)
	if err != nil {
		return nil, err
	}
	before, err := t.before(spawn.Identity{Actor: r.ID, Epoch: 1})
	if err != nil {
		return nil, err
	}
	after, err := spawn.Program(r)
	if err != nil {
		return nil, err
	}
	launcher := plan.Namespaces(uint64(b.launcherOptions(r.Alone || r.HostNetwork).Namespaces))
	return []plan.Section{
		{Name: "setup", Runs: "by the launcher, once, in namespaces of its own (" + launcher + "): builds the root that actors get a copy of", Steps: setup},
		{Name: "prepare", Runs: "by the launcher, for each actor: what the actor's init could not do", Steps: t.prepare(socketName([8]byte{}))},
		{
			Name: "before", Runs: "by the actor's init, process 1 of new namespaces (" + plan.Namespaces(t.cloneFlags()) + "), and from fork on by the program's own process, which is confined while the supervisor finds out who said hello",
			Steps: before,
		},
		{Name: "after", Runs: "by the program's own process, once the supervisor knows who said hello", Steps: after},
	}, nil
}
