package spawntest

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"sandboxd/spawn"
)

// Requests gives requests that are complete but for Argv and Stdio, with the
// walls down: what holds must hold without filters. As root each has host ids of
// its own; slot tells those of packages apart, whose tests run at once.
func Requests(slot int) func(testing.TB) *spawn.Request {
	var made atomic.Int64
	return func(testing.TB) *spawn.Request {
		n := int(made.Add(1))
		r := &spawn.Request{
			ID: fmt.Sprint("actor-", n), Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, Dir: "/", UID: 1000, GID: 1000,
			Hostname: "conformance", Scratch: spawn.Scratch{Bytes: 8 << 20, Inodes: 512}, Umask: 0o022,
		}
		if os.Geteuid() == 0 { // ids of leases that nobody has while a few supervisors live, see package sandbox
			id := 1879048192 + (2048+slot)*32768 + 2*(n%16384)
			r.Host = &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1}
		}
		return r
	}
}

// With gives r a program, without streams.
func With(t testing.TB, r *spawn.Request, argv ...string) *spawn.Request {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	r.Argv, r.Stdio = argv, [3]*os.File{null, null, null}
	return r
}
