package microvm_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/microvm"
	"sandboxd/spawn/native"
	"sandboxd/spawn/spawntest"
	"sandboxd/vm/debian"
)

func TestMain(m *testing.M) { spawntest.Main(m, nil) }

// Where the parts are, for the run of these tests as an ordinary user.
const (
	programEnv = "SANDBOXD_TEST_PROGRAM"
	cacheEnv   = "SANDBOXD_VM_CACHE"
)

// deadline turns a hang into a failure: a boot takes seconds, on a busy machine a minute.
var deadline = hosttest.Patience(300)

func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, deadline) }

var parts struct {
	sync.Mutex
	program string
}

// newBackend makes one of QEMU and the kernel, which are fetched once, and of
// sandboxd, which is built once.
func newBackend(t testing.TB) spawn.Backend {
	parts.Lock()
	defer parts.Unlock()
	if parts.program == "" {
		if parts.program = os.Getenv(programEnv); parts.program == "" {
			if err := microvm.Fetch(bounded(t), t.Output()); err != nil {
				hosttest.Lack(t, "QEMU and a kernel for guests: %v", err)
			}
			dir, err := os.MkdirTemp("", "vm") // below the package's own directory, which goes with it
			if err == nil {
				err = os.Chmod(dir, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			parts.program = hosttest.Sandboxd(t, dir)
		}
		// What native makes once and keeps is no leak of a machine's.
		spawntest.Warm(t, func(testing.TB) spawn.Backend { return native.New(native.Options{}) }, request)
	}
	return microvm.New(microvm.Options{Program: parts.program})
}

var requests = spawntest.Requests(4)

// request has as little memory as the tests need.
func request(t testing.TB) *spawn.Request {
	r := requests(t)
	r.Memory = 384 << 20
	return r
}

var lacks = spawntest.Lacks{
	spawntest.Terminal: "has no way yet to carry one into a guest",
	spawntest.Notify:   "cannot hand out a listener of the guest's kernel",

	spawntest.SharedKernel: "the program is on the guest's kernel",
}

// A boot for each, at least.
func TestConformance(t *testing.T) {
	var names []string // all
	if testing.Short() {
		names = []string{"Stdio", "KillTwice"}
	}
	spawntest.Only(t, newBackend, request, lacks, names...)
}

func TestAsUser(t *testing.T) {
	spawntest.Root(t)
	dir := spawntest.Dir(t)
	program := copyParts(t, dir)
	spawntest.SomeAsUser(t, "^(TestMounts|TestLost)$", "", programEnv+"="+program, cacheEnv+"="+dir)
}

// copyParts copies what a machine is made of: root's own cache is nobody else's
// to read. Of the kernel only what is loaded.
func copyParts(t *testing.T, dir string) (program string) {
	t.Helper()
	newBackend(t).Close()
	cache, err := debian.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "sandboxd")
	copyFile(t, parts.program, program)
	copyTree(t, cache.Dir, dir, func(path string) bool {
		_, module, ok := strings.Cut(path, "/kernel/")
		for _, part := range []string{"fs/9p", "fs/netfs", "fs/fscache", "fs/overlayfs", "net/9p", "drivers/virtio", "drivers/char"} {
			ok = ok && !strings.HasPrefix(module, part)
		}
		return !ok && (strings.HasPrefix(path, "qemu-") || strings.HasPrefix(path, microvm.KernelName+"-"))
	})
	return program
}

func copyTree(t *testing.T, from, to string, wanted func(string) bool) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(from, path)
		if err != nil || d.IsDir() || !wanted(name) {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			text, err := os.Readlink(path)
			return errors.Join(err, os.Symlink(text, target))
		}
		copyFile(t, path, target)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	st, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// actor is one that runs, with what it has written.
type actor struct {
	spawn.Process
	t        *testing.T
	out, err bytes.Buffer
	pumps    sync.WaitGroup
}

// start starts argv. The error is that of Start.
func start(t *testing.T, ctx context.Context, b spawn.Backend, r *spawn.Request, argv ...string) (*actor, error) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	a := &actor{t: t}
	r.Argv, r.Stdio[0] = argv, null
	for i, to := range []*bytes.Buffer{&a.out, &a.err} {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Stdio[1+i] = out
		a.pumps.Go(func() { _, _ = io.Copy(to, in); in.Close() })
	}
	a.Process, err = b.Start(ctx, r)
	for _, f := range r.Stdio {
		f.Close()
	}
	if err != nil {
		a.pumps.Wait()
		return nil, err
	}
	t.Cleanup(func() { a.Close() })
	return a, nil
}

// run runs argv to its end.
func run(t *testing.T, b spawn.Backend, r *spawn.Request, argv ...string) (exit spawn.Exit, out, errOut string) {
	t.Helper()
	a, err := start(t, bounded(t), b, r, argv...)
	if err != nil {
		t.Fatal(err)
	}
	exit, err = a.Wait(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.pumps.Wait()
	return exit, a.out.String(), a.err.String()
}

// A directory of the user's as root, with files let in and written: whose they
// are and what of them may be changed is as without a machine. The kernel is another.
func TestMounts(t *testing.T) {
	b := newBackend(t)
	spawntest.Watch(t)
	defer b.Close()
	dir := spawntest.Dir(t)
	root, shared, fixed := dir+"/root", dir+"/shared", dir+"/fixed"
	for _, d := range []string{root, root + "/usr", shared, fixed} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []string{"bin", "lib", "lib64"} {
		if real, err := filepath.EvalSymlinks("/" + l); err != nil || !strings.HasPrefix(real, "/usr/") {
			hosttest.Lack(t, "/%s as a link to /usr", l)
		}
		if err := os.Symlink("usr/"+l, root+"/"+l); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(fixed+"/note", []byte("from the host\n"), 0o600), os.WriteFile(root+"/own", []byte("own\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	r := request(t)
	r.Root = rootfs.Source{Kind: rootfs.Dir, Path: root, Writable: true}
	r.Mounts = []rootfs.Mount{{Source: "/usr", Target: "/usr"}, {Source: shared, Target: "/shared", Writable: true}, {Source: fixed + "/note", Target: "/in/note"}}
	exit, out, errOut := run(t, b, r, "sh", "-c", `uname -r; cat /own /in/note; echo changed >/own && cat /own
		echo made >/shared/made; (echo x >/in/note) 2>/dev/null || echo fixed; (echo x >/usr/x) 2>/dev/null || echo fixed; stat -c %u /shared/made; ls /vm; exit 3`)
	release, rest, _ := strings.Cut(out, "\n")
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if here := unix.ByteSliceToString(u.Release[:]); release == here || !strings.HasPrefix(release, "6.1.") {
		t.Errorf("the program runs on %q, this is %q", release, here)
	}
	if want := "own\nfrom the host\nchanged\nfixed\nfixed\n1000\n"; rest != want || !exit.Reported || exit.Status.ExitStatus() != 3 {
		t.Errorf("%q, want %q; %+v, stderr %q", rest, want, exit, errOut)
	}
	if made, err := os.ReadFile(shared + "/made"); string(made) != "made\n" {
		t.Errorf("what was written is %q, %v", made, err)
	}
	st, err := os.Stat(shared + "/made")
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Geteuid() {
		t.Errorf("what was written belongs to %d, its directory to %d", uid, os.Geteuid())
	}
	if g := exit.Guest; g == nil || !strings.HasPrefix(g.Machine, "QEMU 10.") || !strings.Contains(g.Machine, "emulated (") || !strings.Contains(g.Machine, "; Linux 6.1.") {
		t.Errorf("the machine is said to be %+v", exit.Guest)
	}
	if own, err := os.ReadFile(root + "/own"); string(own) != "own\n" {
		t.Errorf("the user's root was changed to %q, %v", own, err)
	}
}

// A program that is not there is said to be so, with the name of the step, as everywhere.
func TestNotFound(t *testing.T) {
	b := newBackend(t)
	spawntest.Watch(t)
	defer b.Close()
	a, err := start(t, bounded(t), b, request(t), "no-such-program")
	step, ok := errors.AsType[*spawn.StepError](err)
	if a != nil || !ok || !step.Program() || !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v, %v", a, err)
	}
}

// Out of memory, processes and room on disk, in the guest: each is told, and the program's output is whole.
func TestLimits(t *testing.T) {
	b := newBackend(t)
	spawntest.Watch(t)
	defer b.Close()
	r := request(t)
	r.PIDs, r.Scratch.Bytes = 20, 1<<20
	exit, out, errOut := run(t, b, r, "sh", "-c", `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do sleep 5 & done 2>/dev/null
		echo held; dd if=/dev/zero of=/tmp/x bs=64k count=100 2>/dev/null; echo full; head -c 300000 /dev/zero; exit 1`)
	if g := exit.Guest; g.PIDsMax == 0 && exit.Status.ExitStatus() != 2 { // dash gives up where it cannot fork
		t.Errorf("the limit on processes was not hit: %+v, %q", g, errOut)
	}
	if exit.Guest.DiskFull != strings.Contains(out, "full") {
		t.Errorf("%+v, where the program says %.100q", exit.Guest, out)
	}
	r = request(t)
	exit, _, errOut = run(t, b, r, "python3", "-c", "x = []\nwhile True: x.append(bytearray(8 << 20))")
	if exit.Guest.OOMKills == 0 || !exit.Status.Signaled() {
		t.Errorf("out of memory: %+v, %+v, %q", exit, exit.Guest, errOut)
	}
}

// A program's connection comes out at the actor's socket.
func TestPeer(t *testing.T) {
	b := newBackend(t)
	spawntest.Watch(t)
	defer b.Close()
	r := request(t)
	r.Peer = true
	a, err := start(t, bounded(t), b, r, "python3", "-c", `
import socket
for word in b"one", b"two":
    s = socket.socket(socket.AF_UNIX)
    s.connect("`+spawn.DefaultSocket+`")
    s.sendall(word)
    print(s.recv(100), s.recv(100))
    s.close()`)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		c, _, err := a.Process.(spawn.Peers).Accept(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		heard := make([]byte, 100)
		n, err := c.Read(heard)
		if err != nil || string(heard[:n]) != word {
			t.Errorf("heard %q, %v", heard[:n], err)
		}
		if _, err := c.Write([]byte("heard " + word)); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	exit, err := a.Wait(bounded(t))
	a.pumps.Wait()
	if want := "b'heard one' b''\nb'heard two' b''\n"; err != nil || exit.Status != 0 || a.out.String() != want {
		t.Errorf("%q, %q; %+v, %v", a.out.String(), a.err.String(), exit, err)
	}
}

// A machine that dies is not a program that ended.
func TestLost(t *testing.T) {
	b := newBackend(t)
	spawntest.Watch(t)
	defer b.Close()
	a, err := start(t, bounded(t), b, request(t), "sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	killed := false
	for _, p := range spawntest.Descendants() {
		if strings.HasPrefix(p.Name, "ld-linux") { // QEMU, by its own linker
			killed = unix.Kill(p.PID, unix.SIGKILL) == nil || killed
		}
	}
	if !killed {
		t.Fatalf("there is no QEMU to kill among %+v", spawntest.Descendants())
	}
	exit, err := a.Wait(bounded(t))
	if err != nil || exit.Reported || exit.Guest == nil || !strings.Contains(exit.Guest.Lost, "the machine ended without a word") {
		t.Errorf("QEMU was killed: %+v, %+v, %v", exit, exit.Guest, err)
	}
	if err := a.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal to what is dead: %v", err)
	}
}

// A boot that nobody waits for any more ends, with the caller's reason.
func TestCancel(t *testing.T) {
	b := newBackend(t)
	spawntest.Watch(t)
	defer b.Close()
	why := errors.New("not wanted any more")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer time.AfterFunc(700*time.Millisecond, func() { cancel(why) }).Stop()
	if a, err := start(t, ctx, b, request(t), "sleep", "1000"); a != nil || !errors.Is(err, why) {
		t.Errorf("%v, %v", a, err)
	}
}

// What is not held is refused by name, before anything is made.
func TestRefusals(t *testing.T) {
	b := newBackend(t)
	defer b.Close()
	huge, err := os.Create(filepath.Join(spawntest.Dir(t), "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	if err := huge.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*spawn.Request){
		"netns: unsupported: ":    func(r *spawn.Request) { r.HostNetwork = true },
		"terminal: unsupported: ": func(r *spawn.Request) { r.Terminal = &spawn.Winsize{Rows: 1, Cols: 1} },
		"seccomp: unsupported: ":  func(r *spawn.Request) { r.Notify = true },
		"memory: unsupported: a guest with 224 MiB has no room for a program of 1024 MiB": func(r *spawn.Request) { r.Exe = huge },
		"memory: unsupported: a limit of 64 MiB is less than the 288 MiB that":            func(r *spawn.Request) { r.Memory = 64 << 20 },
	} {
		r := request(t)
		r.Argv = []string{"true"}
		change(r)
		if p, err := b.Start(bounded(t), r); p != nil || err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "--backend native") {
			t.Errorf("%v, %v; want %s", p, err, want)
		}
	}
}

// Without QEMU, a kernel or the program, the way to them is said.
func TestGates(t *testing.T) {
	dir := spawntest.Dir(t)
	cache, err := debian.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	newBackend(t).Close() // fetches
	kernels, _ := filepath.Glob(cache.Dir + "/" + microvm.KernelName + "-*/boot/vmlinuz-*")
	if len(kernels) == 0 {
		t.Fatal("no kernel in the cache")
	}
	packed, cloud := filepath.Join(dir, "packed"), filepath.Join(dir, "cloud")
	err = errors.Join(os.MkdirAll(packed+"/kernel/fs/9p", 0o755), os.WriteFile(packed+"/kernel/fs/9p/9p.ko.xz", nil, 0o644),
		os.MkdirAll(cloud+"/kernel", 0o755), os.WriteFile(cloud+"/modules.builtin", []byte("kernel/fs/ext4/ext4.ko\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options microvm.Options
		want    string
		feature spawn.Feature
	}{
		{microvm.Options{Cache: dir}, "vmm: vm cache: qemu: not fetched yet to " + dir + " (run `sandboxd vm fetch`, once", spawn.VMM},
		{microvm.Options{Program: dir + "/none"}, "vmm: stat " + dir + "/none: no such file or directory (build sandboxd statically", spawn.VMM},
		{microvm.Options{Program: "/bin/sh"}, "vmm: /bin/sh is linked dynamically, and a guest has no libraries (build", spawn.VMM},
		{microvm.Options{Program: dir}, "vmm: " + dir + " is not a program (build", spawn.VMM},
		{microvm.Options{Kernel: dir + "/none"}, "guest-kernel: vm: kernel: open " + dir + "/none: no such file or directory (name a bzImage", spawn.GuestKernel},
		{microvm.Options{Kernel: "/bin/sh"}, "guest-kernel: vm: /bin/sh is no x86 kernel image (bzImage); an uncompressed vmlinux does not boot (name", spawn.GuestKernel},
		{microvm.Options{Kernel: kernels[0], Modules: dir}, "guest-kernel: stat " + dir + "/kernel: no such file or directory (name a bzImage", spawn.GuestKernel},
		{microvm.Options{Kernel: kernels[0], Modules: packed}, "guest-kernel: " + packed + "/kernel/fs/9p/9p.ko.xz is compressed: name a copy", spawn.GuestKernel},
		{microvm.Options{Kernel: kernels[0], Modules: cloud}, "guest-kernel: " + cloud + " has no 9p, by which", spawn.GuestKernel},
		{microvm.Options{Modules: dir}, "guest-kernel: modules are named, " + dir + ", and no kernel (name", spawn.GuestKernel},
	} {
		b := microvm.New(c.options)
		r := request(t)
		r.Argv = []string{"true"}
		if p, err := b.Start(bounded(t), r); p != nil || err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%v, %v; want %s", p, err, c.want)
		}
		if f := b.Probe(bounded(t)); len(f) != 1 || f[c.feature] == nil {
			t.Errorf("Probe: %v, want %s", f, c.feature)
		}
		b.Close()
	}
}
