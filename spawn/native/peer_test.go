package native_test

import (
	"os"
	"testing"

	"sandboxd/namespaces"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
)

// An ordinary user's host ids count in the launcher's user namespace: 0 is the user, 1 the first subordinate id.
func TestProgramUID(t *testing.T) {
	sub := native.Options{SubUIDs: namespaces.Range{Start: 100000, Count: 65536}}
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
		if got := native.ProgramUID(c.rootless, sub, &spawn.Request{Host: c.host}); got != c.want {
			t.Errorf("rootless %v, ids %+v: the program has uid %d here, want %d", c.rootless, c.host, got, c.want)
		}
	}
}
