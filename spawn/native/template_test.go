package native_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

// watched makes a backend, followed by the leak check.
func watched(t *testing.T) *native.Backend {
	t.Helper()
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := native.New(native.Options{})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// run runs argv to its end.
func run(t *testing.T, b spawn.Backend, change func(*spawn.Request), argv ...string) string {
	t.Helper()
	r := request(t)
	if change != nil {
		change(r)
	}
	out := spawntest.Piped(t, r, argv...)
	p, err := b.Start(bounded(t), r)
	if err != nil {
		t.Fatalf("%q: %v", argv, err)
	}
	exit, err := p.Wait(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	text := out()
	if exit.Status != 0 {
		t.Errorf("%q: %+v: %s", argv, exit, text)
	}
	return text
}

// launchers are the launchers below this process.
func launchers() (pids []int) {
	for _, p := range spawntest.Descendants() {
		if p.Name == spawntest.Launcher && p.State != 'Z' {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// Actors with the same template share a launcher; one that has paths or ids of
// its own has a launcher of its own, which goes with it.
func TestLaunchersAreShared(t *testing.T) {
	b := watched(t)
	for range 3 {
		run(t, b, nil, "true")
	}
	if n := launchers(); len(n) != 1 {
		t.Errorf("%d launchers for one template", len(n))
	}
	run(t, b, func(r *spawn.Request) { r.Hostname = "other" }, "true")
	if n := launchers(); len(n) != 2 {
		t.Errorf("%d launchers for two templates", len(n))
	}
	dir := spawntest.Dir(t)
	run(t, b, func(r *spawn.Request) { r.Mounts = []rootfs.Mount{{Source: dir, Target: "/data"}} }, "true")
	run(t, b, func(r *spawn.Request) {
		r.Root.Kind = rootfs.Scratch
		r.Mounts = []rootfs.Mount{{Source: spawntest.Busybox(t), Target: "/bin/true"}}
	}, "/bin/true")
	end := time.Now().Add(deadline) // they end beside the caller
	for len(launchers()) > 2 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if n := launchers(); len(n) != 2 {
		t.Errorf("%d launchers after actors with mounts of their own have ended, want 2", len(n))
	}
}

// A start that fails leaves no launcher behind, at whatever step it fails.
func TestFailedTemplatesLeaveNothing(t *testing.T) {
	b := watched(t)
	dir := spawntest.Dir(t)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	mount := func(m rootfs.Mount) func(*spawn.Request) {
		return func(r *spawn.Request) { r.Mounts = []rootfs.Mount{m} }
	}
	for name, c := range map[string]struct {
		ctx    context.Context
		change func(*spawn.Request)
		want   error
	}{
		"no source":          {bounded(t), mount(rootfs.Mount{Source: dir + "/none", Target: "/data"}), unix.ENOENT},
		"unwritable target":  {bounded(t), mount(rootfs.Mount{Source: dir, Target: "/usr/none/here"}), unix.EROFS},
		"a file in the way":  {bounded(t), mount(rootfs.Mount{Source: dir, Target: "/etc/passwd/x"}), unix.ENOTDIR},
		"no root":            {bounded(t), func(r *spawn.Request) { r.Root = rootfs.Source{Kind: rootfs.Dir, Path: dir + "/none"} }, unix.ENOENT},
		"no archive":         {bounded(t), func(r *spawn.Request) { r.Root = rootfs.Source{Kind: rootfs.Tar, Path: dir + "/none"} }, unix.ENOENT},
		"long host name":     {bounded(t), func(r *spawn.Request) { r.Hostname = strings.Repeat("h", 65) }, unix.EINVAL},
		"cancelled, mounts":  {over, mount(rootfs.Mount{Source: dir, Target: "/data"}), context.Canceled},
		"cancelled, its own": {over, func(r *spawn.Request) { r.Root = rootfs.Source{Kind: rootfs.Dir, Path: dir} }, context.Canceled},
	} {
		for range 4 {
			r := request(t)
			c.change(r)
			spawntest.Piped(t, r, "true")
			if p, err := b.Start(c.ctx, r); !errors.Is(err, c.want) || p != nil {
				t.Errorf("%s: %v, %v, want %v", name, p, err, c.want)
			}
		}
		end := time.Now().Add(deadline) // they end beside the caller
		for len(launchers()) > 1 && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
		if n := launchers(); len(n) > 1 { // the one of host names is shared
			t.Errorf("%s: %d launchers are left", name, len(n))
		}
	}
}

// What the caller may not see is no refusal of the host's.
func TestForbiddenMount(t *testing.T) {
	b := watched(t)
	dir := spawntest.Dir(t)
	if err := os.Mkdir(dir+"/closed", 0); err != nil {
		t.Fatal(err)
	}
	want := unix.EACCES
	if os.Geteuid() == 0 { // who may look everywhere, and finds nothing
		want = unix.ENOENT
	}
	r := request(t)
	r.Mounts = []rootfs.Mount{{Source: dir + "/closed/file", Target: "/data"}}
	spawntest.Piped(t, r, "true")
	if p, err := b.Start(bounded(t), r); !errors.Is(err, want) || p != nil || strings.Contains(err.Error(), "namespaces") {
		t.Errorf("%v, %v, want %v", p, err, want)
	}
}

// A backend may be closed while it makes a template that has a writable layer of its own.
func TestCloseDuringTemplate(t *testing.T) {
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	dir := spawntest.Dir(t)
	for i := range spawntest.Rounds(12, 200) {
		b := native.New(native.Options{})
		var group sync.WaitGroup
		for range 4 {
			r := request(t)
			r.Root = rootfs.Source{Kind: rootfs.Dir, Path: dir, Writable: true}
			spawntest.Piped(t, r, "/none")
			group.Go(func() {
				if p, err := b.Start(bounded(t), r); err == nil {
					t.Errorf("started %v", p)
				}
			})
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}

// The caller's patience bounds a start, also where a launcher does not answer.
func TestStoppedLauncher(t *testing.T) {
	b := watched(t)
	run(t, b, nil, "true")
	pids := launchers()
	if len(pids) != 1 {
		t.Fatalf("launchers %v", pids)
	}
	if err := unix.Kill(pids[0], unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	r := request(t)
	spawntest.Piped(t, r, "true")
	result := make(chan error, 1)
	go func() {
		p, err := b.Start(ctx, r)
		if p != nil {
			p.Close()
		}
		result <- err
	}()
	select {
	case err := <-result:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
	case <-time.After(deadline / 4):
		t.Error("the start does not heed its context")
	}
	if err := unix.Kill(pids[0], unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// Close does not wait for a launcher that is stopped.
func TestCloseOfAStoppedLauncher(t *testing.T) {
	b := watched(t)
	run(t, b, nil, "true")
	for _, pid := range launchers() {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if n := launchers(); len(n) != 0 {
		t.Errorf("left: %v", n)
	}
}

// A parked actor has its streams and waits for its program, which is named later.
func TestPark(t *testing.T) {
	b := watched(t)
	for i := range 3 {
		r := request(t)
		r.Dir, r.Umask = "/usr", 0o077
		out := spawntest.Piped(t, r)
		p, err := b.Park(bounded(t), r)
		if err != nil {
			t.Fatal(err)
		}
		r.Argv = []string{"sh", "-c", fmt.Sprintf("echo program %d; pwd; umask", i)}
		a, err := p.Start(bounded(t), r)
		if err != nil {
			t.Fatal(err)
		}
		if exit, err := a.Wait(bounded(t)); err != nil || exit.Status != 0 {
			t.Errorf("%+v, %v", exit, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if got, want := out(), fmt.Sprintf("program %d\n/usr\n0077\n", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	r := request(t)
	spawntest.Piped(t, r)
	p, err := b.Park(bounded(t), r)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := p.Start(bounded(t), r); err == nil || a != nil {
		t.Errorf("a parked actor was started without a program: %v", a)
	}
	if p, err = b.Park(bounded(t), r); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNetns(t *testing.T) {
	b := watched(t)
	run(t, b, nil, "true")
	pooled, err := b.Netns(bounded(t), request(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Close()
	link, err := os.Readlink(fmt.Sprint("/proc/self/fd/", pooled.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	// The actors live beside each other until their input ends, for the kernel gives the number of a namespace that is
	// gone to the next.
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer hold.Close()
	outs := map[string]func() string{}
	for name, c := range map[string]func(*spawn.Request){
		"fresh": func(*spawn.Request) {}, "fresh again": func(*spawn.Request) {}, "alone": func(r *spawn.Request) { r.Alone = true },
		"pooled": func(r *spawn.Request) { r.Netns = pooled }, "host": func(r *spawn.Request) { r.HostNetwork = true },
	} {
		r := request(t)
		c(r)
		outs[name] = spawntest.Piped(t, r, "sh", "-c", "readlink /proc/self/ns/net; cat")
		r.Stdio[0] = in
		p, err := b.Start(bounded(t), r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer p.Close()
	}
	hold.Close()
	seen := map[string]bool{}
	for name, out := range outs {
		got := strings.TrimSuffix(out(), "\n")
		switch {
		case !strings.HasPrefix(got, "net:["), seen[got]:
			t.Errorf("%s: network namespace %q, which another one has", name, got)
		case name == "pooled" && got != link, name == "host" && got != host, name != "host" && got == host, name != "pooled" && got == link:
			t.Errorf("%s: network namespace %q; the host's is %s, the pooled %s", name, got, host, link)
		}
		seen[got] = true
	}
}

func TestTimeNamespace(t *testing.T) {
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		spawntest.Lack(t, "time namespaces: %v", err)
	}
	b := watched(t)
	up := run(t, b, func(r *spawn.Request) { r.TimeNS = true }, "cut", "-d.", "-f1", "/proc/uptime")
	if len(up) > 3 { // less than 100 seconds, since it has just begun
		t.Errorf("the clock of boot time starts at %s", up)
	}
	if _, err := b.Start(bounded(t), func() *spawn.Request {
		r := request(t)
		r.TimeNS = true
		spawntest.Piped(t, r, "no-such-program")
		return r
	}()); !errors.Is(err, unix.ENOENT) { // the error crosses to another image of memory
		t.Error(err)
	}
}

func TestMounts(t *testing.T) {
	b := watched(t)
	ro, rw := spawntest.Dir(t), spawntest.Dir(t)
	for _, d := range []string{ro, rw} {
		if err := os.WriteFile(d+"/file", []byte("host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, b, func(r *spawn.Request) {
		r.Mounts = []rootfs.Mount{{Source: ro, Target: "/data/ro"}, {Source: rw, Target: "/data/rw", Writable: true}, {Source: ro + "/file", Target: "/one/file"}}
	}, "sh", "-c", "cat /data/ro/file /data/rw/file /one/file; echo x 2>&1 >/data/ro/file; echo x 2>&1 >/one/file; echo inside >/data/rw/made && stat -c %u /data/rw/made")
	if !strings.HasPrefix(out, "host\nhost\nhost\n") || strings.Count(out, "Read-only file system") != 2 || !strings.HasSuffix(out, "\n1000\n") {
		t.Errorf("%s", out)
	}
	var st unix.Stat_t
	if err := unix.Stat(rw+"/made", &st); err != nil || int(st.Uid) != os.Geteuid() {
		t.Errorf("what the program made belongs to %d here: %v", st.Uid, err)
	}
	if os.Geteuid() != 0 {
		return // and nothing is id-mapped
	}
	r := request(t)
	r.Mounts = []rootfs.Mount{{Source: "/dev/pts", Target: "/data"}} // no kernel can id-map this one
	spawntest.Piped(t, r, "true")
	if _, err := b.Start(bounded(t), r); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "id-map /dev/pts: ") || !strings.Contains(err.Error(), "copy it to") {
		t.Errorf("a file system that cannot be id-mapped: %v", err)
	}
}

// The same init, built now, passes what the committed one passes.
func TestFreshObject(t *testing.T) {
	compiler := map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}[runtime.GOARCH]
	if _, err := exec.LookPath(compiler); err != nil {
		spawntest.Lack(t, "a compiler: %v", err)
	}
	object := filepath.Join(spawntest.Dir(t), "init")
	if out, err := exec.Command("../launcher/init/build.sh", runtime.GOARCH, object).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	spawntest.Expect(t, spawntest.Again(t, os.Args[0], "^(TestConformance|TestRoots|TestMounts)$", "", spawntest.ObjectEnv+"="+object))
}

func TestExplainNeedsNothing(t *testing.T) {
	spawntest.Watch(t)
	b := native.New(native.Options{})
	r := request(t)
	r.Argv = []string{"true"}
	sections, err := b.Explain(r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sections {
		names = append(names, s.Name)
		if len(s.Steps) == 0 || s.Runs == "" {
			t.Errorf("%+v", s)
		}
	}
	if !slices.Equal(names, []string{"setup", "prepare", "before", "after"}) {
		t.Errorf("sections %q", names)
	}
	if n := launchers(); len(n) != 0 {
		t.Error("a process was started to explain")
	}
}

// An ordinary user's program that is the user, and root inside: its init starts
// as that root, and may not lose its capabilities when it becomes another.
func TestInitOfRootInside(t *testing.T) {
	b := native.New(native.Options{})
	for host, want := range map[spawn.HostIDs]bool{{InitUID: 1, InitGID: 1}: true, {InitUID: 1, InitGID: 1, UID: 2, GID: 2}: false} {
		r := request(t)
		r.Argv, r.UID, r.Host = []string{"true"}, 0, &host
		sections, err := b.Explain(r)
		if err != nil {
			t.Fatal(err)
		}
		setid := slices.IndexFunc(sections[2].Steps, func(s plan.Step) bool { return s.Kind == plan.Setid })
		keeps := slices.IndexFunc(sections[2].Steps, func(s plan.Step) bool { return s.Kind == plan.Securebits })
		if got := keeps >= 0 && keeps < setid; got != want || setid < 0 {
			t.Errorf("%+v: securebits in step %d, setid in %d", host, keeps, setid)
		}
	}
}
