package process_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"sandboxd/spawn"
	"sandboxd/spawn/process"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m, nil) }

func newBackend(testing.TB) spawn.Backend { return process.New() }

var lacks = spawntest.Lacks{
	spawntest.Hidden: "without namespaces the program sees the host's processes",
}

var requests atomic.Int64

// firstID is where the host ids of these tests begin.
const firstID = 1879048192 + 1<<25

// request is complete but for Argv and Stdio.
func request(t testing.TB) *spawn.Request {
	n := int(requests.Add(1))
	r := &spawn.Request{ID: fmt.Sprint("actor-", n), Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, Dir: "/", Umask: 0o022}
	r.Private = spawntest.Dir(t)
	if os.Geteuid() == 0 {
		id := firstID + 2*(n%4096)
		r.Host = &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1}
		if err := os.Chown(r.Private, id+1, id+1); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func TestConformance(t *testing.T) { spawntest.Run(t, newBackend, request, lacks) }

func TestKills(t *testing.T) {
	spawntest.Kills(t, newBackend, request, spawntest.Launcher, spawntest.Init)
}

func TestAsUser(t *testing.T) { spawntest.AsUser(t, "") }
