package container_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/namespaces"
	"sandboxd/spawn"
	"sandboxd/spawn/container"
	"sandboxd/spawn/container/job"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m, nil) }

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(60)

func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, deadline) }

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
	o := container.Options{Helper: helper(t)}
	if os.Geteuid() != 0 {
		var err error
		if o.SubUIDs, o.SubGIDs, err = namespaces.SubIDs(); err != nil {
			t.Fatal(err)
		}
	}
	return container.New(o)
}

var (
	requests = spawntest.Requests(2)
	subIDs   atomic.Int64
)

// request has subordinate ids where the caller is an ordinary user.
func request(t testing.TB) *spawn.Request {
	r := requests(t)
	if r.Host == nil {
		id := 1 + 2*int(subIDs.Add(1)%4096)
		r.Host = &spawn.HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1}
	}
	return r
}

// able skips where it is the caller who cannot have a container.
func able(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if uids, _, err := namespaces.SubIDs(); err != nil || uids.Count == 0 {
		hosttest.Lack(t, "subordinate ids of this user (%v)", err)
	}
}

func TestConformance(t *testing.T) {
	able(t)
	spawntest.Run(t, newBackend, request, nil)
}

func TestKills(t *testing.T) {
	able(t)
	spawntest.Kills(t, newBackend, request, spawntest.Launcher, spawntest.Init)
}

// An ordinary user without subordinate ids is refused by a name that says so, and is told the way out.
func TestRootless(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("does not apply: root is let in; TestAsUser runs this")
	}
	b := container.New(container.Options{})
	p, err := b.Start(bounded(t), request(t))
	gate, ok := errors.AsType[*spawn.Gate](err)
	if p != nil || !ok || gate.Feature != spawn.Rootless || !strings.Contains(err.Error(), "has no subordinate ids") || !strings.Contains(err.Error(), "--backend native") {
		t.Errorf("as uid %d: %v, %v", os.Geteuid(), p, err)
	}
	if f := b.Probe(bounded(t)); len(f) != 1 || f[spawn.Rootless] == nil || f[spawn.Rootless].Error() != err.Error() {
		t.Errorf("Probe as uid %d: %v, want %v", os.Geteuid(), f, err)
	}
}

func TestAsUser(t *testing.T) {
	spawntest.SomeAsUser(t, "^(TestRootless|TestExplain)$", "")
	program, err := os.ReadFile(helper(t)) // where a user can execute it, who could not build it
	name := filepath.Join(spawntest.Dir(t), job.Program)
	if err == nil {
		err = os.WriteFile(name, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	spawntest.AsUserWithIDs(t, ".", "^(TestHelper|TestDeviceRules)$", "SANDBOXD_CONTAINER="+name)
}

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
func with(t testing.TB, argv ...string) *spawn.Request { return spawntest.With(t, request(t), argv...) }

// libcontainer makes no cgroup and moves nobody: what has none of ours stays in
// the supervisor's, and what has one is in it before its program runs.
func TestCgroupsStayOurs(t *testing.T) {
	able(t)
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

// An actor with a cgroup v2 has device rules in it, which nobody in it could
// notice: there is no device within reach that they forbid.
func TestDeviceRules(t *testing.T) {
	spawntest.Root(t)
	dir := spawntest.Leaf(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	if n, err := deviceFilters(dir); n != 0 || err != nil {
		t.Fatalf("%d device filters before, %v", n, err)
	}
	r := with(t, "sh", "-c", "echo x >/dev/null && head -c 1 /dev/urandom >/dev/null && ! mknod /tmp/kmsg c 1 11")
	r.Cgroup = dir
	p, err := b.Start(bounded(t), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if n, err := deviceFilters(dir); n != 1 || err != nil {
		t.Errorf("%d device filters, %v; want 1", n, err)
	}
	if exit, err := p.Wait(bounded(t)); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
}

// deviceFilters counts them in a cgroup, by bpf(2).
func deviceFilters(dir *os.File) (uint32, error) {
	const query, cgroupDevice = 16, 6
	var ids [8]uint32
	attr := struct {
		target, kind, flags, attached uint32
		ids                           uint64
		count, _                      uint32
	}{target: uint32(dir.Fd()), kind: cgroupDevice, ids: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(len(ids))}
	_, _, errno := unix.Syscall(unix.SYS_BPF, query, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(&ids)
	if errno != 0 {
		return 0, errno
	}
	return attr.count, nil
}

// Where the caller is held to some CPUs, so are its actors: libcontainer would undo it.
func TestCallersAffinity(t *testing.T) {
	able(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if all.Count() < 2 {
		t.Skip("does not apply: this host has one CPU")
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			t.Error(err)
		}
	}()
	p, err := b.Start(bounded(t), with(t, "sh", "-c", "exit $(nproc)"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if exit, err := p.Wait(bounded(t)); err != nil || exit.Status.ExitStatus() != 1 {
		t.Errorf("%+v, %v; want 1 CPU", exit, err)
	}
}

// What Explain shows is what Start would send, and takes neither root nor the helper.
func TestExplain(t *testing.T) {
	r := with(t, "true")
	r.Cgroup = new(os.File) // only its presence counts
	sections, err := container.New(container.Options{}).Explain(r)
	if err != nil || len(sections) != 4 {
		t.Fatalf("%v, %v", sections, err)
	}
	before := sections[2].Steps
	if before[0].Kind != plan.JoinCgroup || before[1].Kind != plan.Unshare || before[len(before)-1].Kind != plan.Welcome {
		t.Errorf("the init does not join first and wait last: %v", before)
	}
	if after := sections[3].Steps; len(after) != 1 || after[0].Kind != plan.Exec {
		t.Errorf("after: %v", after)
	}
}
