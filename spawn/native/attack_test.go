package native_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/landlock"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/spawntest"
)

const socketPath = "/run/sandboxd/peer.sock"

// attack is the program's role: it attacks its init, and says how each attempt ended.
func attack() {
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns == os.Getenv("HOST_PIDNS") {
		fmt.Println("not in a sandbox: refusing to attack")
		os.Exit(3)
	}
	try := func(name string, err error) {
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			fmt.Printf("%s: %s\n", name, unix.ErrnoName(errno))
		} else if err != nil {
			fmt.Printf("%s: %v\n", name, err)
		} else {
			fmt.Printf("%s: OK\n", name)
		}
	}
	call := func(nr uintptr, args ...uintptr) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
			return e
		}
		return nil
	}
	var buf [64]byte
	local := unix.Iovec{Base: &buf[0]}
	local.SetLen(len(buf))
	remote := unix.RemoteIovec{Base: 0x400000, Len: len(buf)}
	_, err := unix.ProcessVMReadv(1, []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
	try("process_vm_readv", err)
	_, err = unix.ProcessVMWritev(1, []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
	try("process_vm_writev", err)
	try("ptrace attach", call(unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1))
	try("ptrace seize", call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1))
	pidfd, err := unix.PidfdOpen(1, 0)
	try("pidfd_open", err)
	for fd := range 3 {
		_, err = unix.PidfdGetfd(pidfd, fd, 0)
		try(fmt.Sprint("pidfd_getfd ", fd), err)
	}
	try("setns", unix.Setns(pidfd, unix.CLONE_NEWNS))
	for _, f := range []string{"mem", "maps", "environ", "auxv", "exe", "io", "syscall", "stack", "pagemap", "ns/mnt", "ns/net"} {
		fd, err := unix.Open("/proc/1/"+f, unix.O_RDONLY, 0)
		if err == nil {
			_, err = unix.Read(fd, buf[:])
		}
		try("read "+f, err)
	}
	for _, f := range []string{"mem", "exe", "oom_score_adj", "uid_map", "comm", "coredump_filter"} {
		_, err := unix.Open("/proc/1/"+f, unix.O_WRONLY, 0)
		try("write "+f, err)
	}
	for _, d := range []string{"fd", "fdinfo", "root/", "cwd/", "map_files"} {
		_, err := os.ReadDir("/proc/1/" + d)
		if path, ok := errors.AsType[*os.PathError](err); ok {
			err = path.Err
		}
		try("list "+d, err)
	}
	_, err = os.Readlink("/proc/1/fd/0")
	if path, ok := errors.AsType[*os.PathError](err); ok {
		err = path.Err
	}
	try("readlink fd/0", err)
	_, err = unix.Open("/proc/1/fd/0", unix.O_RDONLY, 0)
	try("open fd/0", err)
	limit := unix.Rlimit{Cur: 1, Max: 1}
	try("prlimit", unix.Prlimit(1, unix.RLIMIT_NPROC, &limit, nil))
	var one unix.CPUSet
	one.Set(0)
	try("sched_setaffinity", unix.SchedSetaffinity(1, &one))
	try("setpriority", unix.Setpriority(unix.PRIO_PROCESS, 1, 19))
	param := struct{ priority int32 }{}
	try("sched_setscheduler", call(unix.SYS_SCHED_SETSCHEDULER, 1, 5 /* SCHED_IDLE */, uintptr(unsafe.Pointer(&param))))
	for _, s := range []syscall.Signal{unix.SIGSTOP, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, 34, unix.SIGKILL} {
		try(fmt.Sprint("kill ", int(s)), unix.Kill(1, s))
	}
	try("pidfd_send_signal", unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0))
	try("connect", connect())
	fmt.Println("attacked")
	_, _ = os.Stdin.Read(buf[:])
	os.Exit(7)
}

func connect() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: socketPath})
}

// TestAttacksOnInit has no filter and no Landlock before it: what holds here,
// two ids and a process that is not dumpable hold.
func TestAttacksOnInit(t *testing.T) {
	denied := map[string]string{}
	for _, name := range []string{
		"process_vm_readv", "process_vm_writev", "ptrace attach", "ptrace seize", "pidfd_getfd 0", "pidfd_getfd 1", "pidfd_getfd 2", "setns",
		"read mem", "read maps", "read environ", "read auxv", "read exe", "read io", "read syscall", "read stack", "read pagemap", "read ns/mnt", "read ns/net",
		"write mem", "write exe", "write oom_score_adj", "write uid_map", "write comm", "write coredump_filter",
		"list fd", "readlink fd/0", "open fd/0", "list fdinfo", "list root/", "list cwd/", "list map_files",
	} {
		denied[name] = "EPERM|EACCES|EROFS"
	}
	denied["pidfd_open"], denied["connect"] = "OK", "ECONNREFUSED"
	signals := []string{"kill 19", "kill 15", "kill 2", "kill 1", "kill 34", "kill 9", "pidfd_send_signal"}
	tuning := []string{"prlimit", "sched_setaffinity", "setpriority", "sched_setscheduler"}
	for _, c := range []struct {
		name           string
		landlock       bool
		signal, tuning string
	}{
		// The calls succeed where the program has its init's id, and do it no harm that anyone relies on.
		{"bare", false, "EPERM", "EPERM"},
		{"landlock", true, "EPERM", "EPERM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			abi, err := landlock.ABI()
			if c.landlock && err != nil {
				spawntest.Lack(t, "Landlock: %v", err)
			}
			scoped := c.landlock && abi >= 6 // signals stay in since Linux 6.12
			spawntest.Warm(t, newBackend, request)
			spawntest.Watch(t)
			want := maps.Clone(denied)
			for _, s := range signals {
				want[s] = c.signal
			}
			for _, s := range tuning {
				want[s] = c.tuning
			}
			if os.Geteuid() != 0 {
				want["list fd"] += "|OK" // their numbers only
				for _, s := range tuning {
					want[s] = "OK"
				}
				if !scoped {
					for _, s := range signals {
						want[s] = "OK"
					}
				}
			}
			backend := newBackend(t)
			defer backend.Close()
			p, out := play(t, backend, "attack", func(r *spawn.Request) { r.Landlock = c.landlock })
			if err := p.Signal(unix.SIGURG); err != nil { // the init still forwards
				t.Error(err)
			}
			text := out("attacked")
			got := map[string]string{}
			for line := range strings.Lines(text) {
				if name, how, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
					got[name] = how
				}
			}
			for name, allowed := range want {
				if !slices.Contains(strings.Split(allowed, "|"), got[name]) {
					t.Errorf("%s: %q, want %s", name, got[name], allowed)
				}
			}
			exit, err := p.Wait(bounded(t))
			if err != nil || !exit.Reported || exit.Status.ExitStatus() != 7 {
				t.Errorf("after the attacks: %+v, %v", exit, err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// flood is the role of a program that connects as often as it can.
func flood() {
	refused := 0
	for range 1000 {
		if err := connect(); err == unix.ECONNREFUSED {
			refused++
		} else {
			fmt.Println("connect:", err)
		}
	}
	fmt.Println("refused", refused)
	fmt.Println("attacked")
	_, _ = os.Stdin.Read(make([]byte, 1))
	os.Exit(7)
}

// Once the init has been heard nobody is, and a flood of connections does not
// keep another actor of the same launcher from being started.
func TestFloodOfConnections(t *testing.T) {
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	backend := newBackend(t)
	defer backend.Close()
	p, out := play(t, backend, "flood", nil)
	q, other := play(t, backend, "flood", nil)
	for _, text := range []string{out("attacked"), other("attacked")} {
		if !strings.Contains(text, "refused 1000\n") {
			t.Errorf("a program reached the peer socket:\n%s", text)
		}
	}
	for _, a := range []spawn.Process{p, q} {
		if exit, err := a.Wait(bounded(t)); err != nil || exit.Status.ExitStatus() != 7 {
			t.Errorf("%+v, %v", exit, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The mounts tell neither where on the host anything lies nor of other actors.
func TestMountsTellNothing(t *testing.T) {
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	backend := newBackend(t)
	defer backend.Close()
	cat := func() (spawn.Process, func() string) {
		r := request(t)
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		outR, outW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { outR.Close() })
		defer outW.Close()
		r.Argv, r.Stdio = []string{"sh", "-c", "cat /proc/self/mountinfo; ls -A /run/sandboxd/s /run/sandboxd/empty; sleep 1000"}, [3]*os.File{null, outW, outW}
		p, err := backend.Start(bounded(t), r)
		if err != nil {
			t.Fatal(err)
		}
		return p, func() string {
			var text string
			for buf := make([]byte, 65536); !strings.HasSuffix(text, "/run/sandboxd/s:\n"); {
				n, err := outR.Read(buf)
				if text += string(buf[:n]); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
			return text
		}
	}
	here := ownRoot(t)
	p, first := cat()
	q, second := cat()
	for _, text := range []string{first(), second()} {
		sockets := 0
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) < 5 || f[0] == "/run/sandboxd/s:" {
				continue
			}
			// In a container's or a chroot's root, the kernel tells of everything where that lies.
			switch root, at := strings.TrimPrefix(f[3], here), f[4]; {
			case strings.HasPrefix(root, "/run/sandboxd/s/"):
				sockets++
			case root == "/", root == real(at), "/dev"+root == at, root == "/null" || root == "/dev/null", root == "/run/sandboxd/empty":
			case at == "/tmp" && root == "/tmp", at == rootfs.Home && root == "/home", at == "/dev/shm" && root == "/shm":
			default:
				t.Errorf("a mount tells of a path outside: %s", line)
			}
			if strings.Contains(strings.ReplaceAll(line, here+"/", "/"), os.TempDir()) {
				t.Errorf("a mount tells of the supervisor's files: %s", line)
			}
		}
		if sockets != 1 {
			t.Errorf("%d sockets show, want one's own:\n%s", sockets, text)
		}
	}
	for _, a := range []spawn.Process{p, q} {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// real is the path behind links, on the host.
// ownRoot is the directory on its file system that / is; "": the file system's root.
func ownRoot(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return strings.TrimSuffix(f[3], "/")
		}
	}
	t.Fatal("/ is no mount")
	return ""
}

func real(p string) string {
	if to, err := filepath.EvalSymlinks(p); err == nil {
		return to
	}
	return p
}

// play starts a role in a sandbox. out reads what it writes up to a word, and lets it go on.
func play(t *testing.T, b spawn.Backend, role string, change func(*spawn.Request)) (p spawn.Process, out func(word string) string) {
	t.Helper()
	self := spawntest.Self(t)
	pidns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	r := request(t)
	r.Mounts = []rootfs.Mount{{Source: self, Target: "/attack"}}
	r.Argv = []string{"/attack"}
	r.Env = append(r.Env, spawntest.RoleEnv+"="+role, "HOST_PIDNS="+pidns)
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Stdio = [3]*os.File{inR, outW, outW}
	if change != nil {
		change(r)
	}
	p, err = b.Start(bounded(t), r)
	inR.Close()
	outW.Close()
	t.Cleanup(func() { inW.Close(); outR.Close() })
	if err != nil {
		t.Fatal(err)
	}
	return p, func(word string) string {
		t.Helper()
		var text string
		_ = outR.SetReadDeadline(time.Now().Add(deadline))
		for buf := make([]byte, 65536); !strings.Contains(text, word); {
			n, err := outR.Read(buf)
			if text += string(buf[:n]); err != nil {
				t.Fatalf("%s said %q and then: %v", role, text, err)
			}
		}
		inW.Close()
		return text
	}
}
