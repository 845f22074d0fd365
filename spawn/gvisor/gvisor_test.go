package gvisor_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
	"sandboxd/spawn/gvisor"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m, nil) }

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(60)

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func newBackend(t testing.TB) spawn.Backend {
	return gvisor.New(gvisor.Options{Runsc: hosttest.Runsc(t)})
}

var requests atomic.Int64

// firstID is where the host ids of these tests begin.
const firstID = 1879048192 + 1<<26 + 1<<20

// request is complete but for Argv and Stdio, with the walls down: what holds must hold without filters.
func request(testing.TB) *spawn.Request {
	n := int(requests.Add(1))
	id := firstID + 2*(n%4096)
	r := &spawn.Request{
		ID: fmt.Sprint("actor-", n), Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, Dir: "/", UID: 1000, GID: 1000,
		Hostname: "conformance", Scratch: spawn.Scratch{Bytes: 8 << 20, Inodes: 512}, Umask: 0o022,
	}
	if os.Geteuid() == 0 {
		r.Host = &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1}
	}
	return r
}

var lacks = spawntest.Lacks{
	spawntest.Terminal: "no terminal leads into gVisor from here",
	spawntest.Inspect:  "the program's process is gVisor's kernel's own; the host has none of it to look at",
	spawntest.Notify:   "gVisor's seccomp has no listener",

	spawntest.SharedKernel: "the program is on gVisor's kernel",
}

func TestConformance(t *testing.T) { spawntest.Run(t, newBackend, request, lacks) }
