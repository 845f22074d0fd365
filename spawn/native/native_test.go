package native_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m, roles) }

var roles = map[string]func(){"attack": attack, "flood": flood}

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(60)

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func newBackend(testing.TB) spawn.Backend { return native.New(native.Options{}) }

var requests atomic.Int64

// firstID is where the host ids of these tests begin.
const firstID = 1879048192 + 1<<24

// request is complete but for Argv and Stdio, with the walls down: what holds
// must hold without filters.
func request(testing.TB) *spawn.Request {
	n := int(requests.Add(1))
	r := &spawn.Request{
		ID: fmt.Sprint("actor-", n), Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, Dir: "/", UID: 1000, GID: 1000,
		Hostname: "conformance", Scratch: spawn.Scratch{Bytes: 8 << 20, Inodes: 512}, Umask: 0o022,
	}
	if os.Geteuid() == 0 {
		id := firstID + 2*(n%4096)
		r.Host = &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1}
	}
	return r
}

func TestConformance(t *testing.T) { spawntest.Run(t, newBackend, request, nil) }

func TestKills(t *testing.T) {
	spawntest.Kills(t, newBackend, request, spawntest.Launcher, spawntest.Init)
}

func TestAsUser(t *testing.T) { spawntest.AsUser(t, "TestFreshObject") }
