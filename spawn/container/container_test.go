package container_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
	"sandboxd/spawn/container"
	"sandboxd/spawn/container/job"
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

var built struct {
	sync.Mutex
	name string
}

// helper is the helper program, built once.
func helper(t testing.TB) string {
	built.Lock()
	defer built.Unlock()
	if built.name == "" {
		built.name = hosttest.Container(t)
	}
	return built.name
}

func newBackend(t testing.TB) spawn.Backend {
	return container.New(container.Options{Helper: helper(t)})
}

var requests atomic.Int64

// firstID is where the host ids of these tests begin.
const firstID = 1879048192 + 1<<26

// request is complete but for Argv and Stdio, with the walls down: what holds must hold without filters.
func request(testing.TB) *spawn.Request {
	n := int(requests.Add(1))
	id := firstID + 2*(n%4096)
	return &spawn.Request{
		ID: fmt.Sprint("actor-", n), Env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}, Dir: "/", UID: 1000, GID: 1000,
		Hostname: "conformance", Scratch: spawn.Scratch{Bytes: 8 << 20, Inodes: 512}, Umask: 0o022,
		Host: &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1},
	}
}

func TestConformance(t *testing.T) {
	spawntest.Root(t)
	spawntest.Run(t, newBackend, request, nil)
}

func TestKills(t *testing.T) {
	spawntest.Root(t)
	spawntest.Kills(t, newBackend, request, spawntest.Launcher, spawntest.Init)
}

// An ordinary user is refused by a name that says so, and is told the way out.
func TestRootless(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("does not apply: root is let in; TestAsUser runs this")
	}
	b := container.New(container.Options{})
	p, err := b.Start(bounded(t), request(t))
	gate, ok := errors.AsType[*spawn.Gate](err)
	if p != nil || !ok || gate.Feature != spawn.Rootless || !strings.HasPrefix(err.Error(), "rootless: unsupported: ") || !strings.Contains(err.Error(), "--backend native") {
		t.Errorf("as uid %d: %v, %v", os.Geteuid(), p, err)
	}
	if f := b.Probe(bounded(t)); len(f) != 1 || f[spawn.Rootless] == nil || f[spawn.Rootless].Error() != err.Error() {
		t.Errorf("Probe as uid %d: %v, want %v", os.Geteuid(), f, err)
	}
}

func TestAsUser(t *testing.T) { spawntest.AsUser(t, "^(TestConformance|TestKills|TestHelper)$") }

// A helper that is not there, is none, or is another one, is said to be so, with the way out.
func TestHelper(t *testing.T) {
	spawntest.Root(t)
	dir := spawntest.Dir(t)
	write := func(name, text string, mode os.FileMode) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	for name, want := range map[string]string{
		dir + "/none":                       "no such file or directory (build it with `make build`",
		dir:                                 "is not a program (build it",
		write("text", "", 0o644):            "is not a program (build it",
		write("script", "#!/bin/sh", 0o755): "is no sandboxd-container of this version",
		"/bin/true":                         "is no sandboxd-container of this version",
	} {
		b := container.New(container.Options{Helper: name})
		p, err := b.Start(bounded(t), with(t, "true"))
		if p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// with is a request for argv without streams.
func with(t testing.TB, argv ...string) *spawn.Request {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	r := request(t)
	r.Argv, r.Stdio = argv, [3]*os.File{null, null, null}
	return r
}

// libcontainer makes no cgroup and moves nobody: what has none of ours stays in
// the supervisor's, and what has one is in it before its program runs.
func TestCgroupsStayOurs(t *testing.T) {
	spawntest.Root(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	p, err := b.Start(bounded(t), with(t, "sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID())); err != nil || string(theirs) != string(ours) {
		t.Errorf("the init is in %s, %v; this process in %s", theirs, err, ours)
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, _ error) error { // others come and go meanwhile
		if d != nil && d.Name() == job.NoCgroup {
			t.Errorf("%s was made", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
