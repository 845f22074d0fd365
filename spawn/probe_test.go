package spawn_test

import (
	"testing"

	"sandboxd/namespaces"
	"sandboxd/spawn"
)

// Probes run beside each other, and no two live actors share ids.
func TestProbeRequest(t *testing.T) {
	a, b := spawn.ProbeRequest(), spawn.ProbeRequest()
	if !namespaces.Privileged() {
		if a.Host != nil {
			t.Errorf("an ordinary user's has ids of the host's: %+v", a.Host)
		}
		return
	}
	seen := map[int]bool{}
	for _, id := range []int{a.Host.InitUID, a.Host.UID, b.Host.InitUID, b.Host.UID} {
		if seen[id] || id < 1879048192+4096*32768 {
			t.Errorf("id %d of %+v and %+v", id, a.Host, b.Host)
		}
		seen[id] = true
	}
}
