package process_test

import (
	"os"
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

var requests = spawntest.Requests(1)

// request has a private directory instead of a root of its own.
func request(t testing.TB) *spawn.Request {
	r := requests(t)
	r.UID, r.GID, r.Hostname, r.Scratch = 0, 0, "", spawn.Scratch{}
	r.Private = spawntest.Dir(t)
	if r.Host != nil {
		if err := os.Chown(r.Private, r.Host.UID, r.Host.GID); err != nil {
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
