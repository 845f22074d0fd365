package spawn_test

import (
	"os"
	"testing"

	"sandboxd/namespaces"
	"sandboxd/spawn"
)

// An ordinary user's host ids count in the launcher's user namespace: 0 is the user, 1 the first subordinate id.
func TestProgramUID(t *testing.T) {
	sub := namespaces.Range{Start: 100000, Count: 65536}
	for _, c := range []struct {
		rootless bool
		host     *spawn.HostIDs
		want     int
	}{
		{false, &spawn.HostIDs{UID: 1879048193}, 1879048193},
		{true, nil, os.Geteuid()},
		{true, &spawn.HostIDs{InitUID: 1, UID: 0}, os.Geteuid()},
		{true, &spawn.HostIDs{InitUID: 1, UID: 2}, 100001},
	} {
		if got := spawn.ProgramUID(&spawn.Request{Host: c.host}, c.rootless, sub); got != c.want {
			t.Errorf("rootless %v, ids %+v: the program has uid %d here, want %d", c.rootless, c.host, got, c.want)
		}
	}
}
