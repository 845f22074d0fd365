package microvm

import (
	"strings"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Explain compiles r as Start would, without executing any of it: the sections
// of the native actor that QEMU is in, and what happens in the guest, in words.
func (b *Backend) Explain(r *spawn.Request) ([]plan.Section, error) {
	s, err := b.supply()
	if err != nil {
		return nil, err
	}
	o, err := s.outer(r)
	if err != nil {
		return nil, err
	}
	sections, err := b.native.Explain(o)
	if err != nil {
		return nil, err
	}
	device, why := b.kvm()
	if device != nil {
		device.Close()
	}
	c := s.job(r).config(nil, nil)
	c.KVM, c.Device = device != nil, device // closed: what is shown is that there is one
	line := strings.Join(c.Command(), " ")
	return append(sections,
		plan.Section{Name: "machine", Runs: "by the program of that actor, sandboxd's monitor, whose exec stands above: " + s.machine(why) + ": " + line, Steps: []plan.Step{}},
		plan.Section{Name: "guest", Runs: "by sandboxd as process 1 of the guest: mounts what is shared by 9p, makes a cgroup, and runs the program as the backend native does, on the guest's kernel", Steps: []plan.Step{}},
	), nil
}
