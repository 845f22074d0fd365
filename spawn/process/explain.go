package process

import (
	"path/filepath"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Explain compiles r as Start would, without executing any of it. What is drawn
// anew for each spawn, the nonce and the name of the socket, stands in as zeros.
// Of r's descriptors only their number counts; they may be nil inside their slices.
func (b *Backend) Explain(r *spawn.Request) ([]plan.Section, error) {
	if err := b.Check(r); err != nil {
		return nil, err
	}
	socket := filepath.Join(r.Private, "peer-0000000000000000.sock")
	after, err := after(told(r, socket))
	if err != nil {
		return nil, err
	}
	return []plan.Section{
		{Name: "setup", Runs: "nothing: this backend has no root to build", Steps: []plan.Step{}},
		{Name: "prepare", Runs: "by the launcher, for each actor", Steps: []plan.Step{{Kind: plan.Listen, Nums: []uint64{plan.SlotListen, plan.NoSlot}, Strs: []string{socket}}}},
		{
			Name: "before", Runs: "by the actor's init, a process without namespaces of its own: ends by saying hello",
			Steps: append(before(r), spawn.Identity{Actor: r.ID, Epoch: 1}.Connect(socket), plan.Step{Kind: plan.Welcome}),
		},
		{Name: "after", Runs: "by the init, and from fork on by the program's own process, once the supervisor knows who said hello", Steps: after},
	}, nil
}
