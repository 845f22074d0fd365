package seccomp

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// A filter cannot be taken off, so whatever installs one runs in a process of
// its own: this test binary again, in a role.
const (
	optionsEnv = "SECCOMP_TEST_OPTIONS" // Options as JSON
	listenerFD = 3                      // in the helper: a socket to send the listener to
)

func TestMain(m *testing.M) {
	hosttest.Main(m, map[string]func() error{
		"calls": helperCalls, "forbidden": helperForbidden, "exec": helperExec, "bench": helperBench, "threads": helperThreads,
	})
}

func helper(t testing.TB, what string, o Options, args ...string) *exec.Cmd {
	t.Helper()
	options, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := hosttest.Command(what, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(cmd.Env, optionsEnv+"="+string(options))
	return cmd
}

// install puts f on the calling thread, which is never unlocked, so that it dies
// with the goroutine. With the flag for it, the result is the listener.
func install(f Filter, flags uintptr) (int, error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("no_new_privs: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}

// confine installs the default policy with the options of the environment, and
// with Kill sends its listener away.
func confine() error {
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv(optionsEnv)), &o); err != nil {
		return err
	}
	p, err := Default(Native(), o)
	if err != nil {
		return err
	}
	f, err := p.Compile()
	if err != nil {
		return err
	}
	if !o.Kill {
		_, err = install(f, 0)
		return err
	}
	fd, err := install(f, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(listenerFD, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("send the listener: %w", err)
	}
	unix.Close(fd)
	unix.Close(listenerFD)
	return nil
}

// realCall is a system call to try under the filter.
type realCall struct {
	name   string
	args   []uintptr
	want   syscall.Errno
	noInet syscall.Errno // with NoInet, where it differs
}

func path(s string) uintptr {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	pinned = append(pinned, p)
	return uintptr(unsafe.Pointer(p))
}

var (
	pinned []*byte
	cwd    = uintptr(^uint(99)) // AT_FDCWD, -100
)

func realCalls() []realCall {
	const ok = 0
	attr := path(string(slices.Repeat([]byte{1}, 256)))
	return []realCall{
		{"getpid", nil, ok, ok},
		{"ptrace", []uintptr{unix.PTRACE_TRACEME}, unix.EPERM, ok},
		{"unshare", []uintptr{unix.CLONE_NEWUSER}, unix.EPERM, ok},
		{"unshare", []uintptr{unix.CLONE_FS}, unix.EPERM, ok},
		{"clone", []uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}, unix.EPERM, ok},
		{"clone3", []uintptr{attr, 64}, unix.ENOSYS, ok},
		{"openat2", []uintptr{cwd, path("/"), attr, 24}, unix.ENOSYS, ok},
		{"mount", []uintptr{path("none"), path("/tmp"), path("tmpfs")}, unix.EPERM, ok},
		{"bpf", nil, unix.EPERM, ok},
		{"keyctl", nil, unix.EPERM, ok},
		{"perf_event_open", nil, unix.EPERM, ok},
		{"userfaultfd", nil, unix.EPERM, ok},
		{"io_uring_setup", []uintptr{1, attr}, unix.ENOSYS, ok},
		{"socket", []uintptr{unix.AF_UNIX, unix.SOCK_STREAM}, ok, ok},
		{"socket", []uintptr{unix.AF_INET, unix.SOCK_DGRAM}, ok, unix.EAFNOSUPPORT},
		{"socket", []uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, ok, unix.EAFNOSUPPORT},
		{"socket", []uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT},
		{"socket", []uintptr{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, unix.EPERM, unix.EAFNOSUPPORT},
		{"socket", []uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}, unix.EPERM, ok},
		{"socket", []uintptr{unix.AF_PACKET, unix.SOCK_RAW}, unix.EPERM, ok},
		{"ioctl", []uintptr{0, unix.TIOCSTI, attr}, unix.EPERM, ok},
		{"ioctl", []uintptr{0, unix.TIOCSTI | 1<<32, attr}, unix.EPERM, ok},
		{"ioctl", []uintptr{0, unix.TCGETS, attr}, unix.ENOTTY, ok}, // the helper's stdin is /dev/null
		{"openat", []uintptr{cwd, path("setuid"), unix.O_CREAT | unix.O_WRONLY, 0o4755}, unix.EPERM, ok},
		{"openat", []uintptr{cwd, path("."), unix.O_TMPFILE | unix.O_RDWR, 0o4755}, unix.EPERM, ok},
		{"openat", []uintptr{cwd, path("plain"), unix.O_CREAT | unix.O_WRONLY, 0o755}, ok, ok},
		{"openat", []uintptr{cwd, path("plain"), unix.O_RDONLY, 0o4755}, ok, ok},
		{"fchmodat", []uintptr{cwd, path("plain"), 0o2755}, unix.EPERM, ok},
		{"fchmodat", []uintptr{cwd, path("plain"), 0o700}, ok, ok},
		{"mknodat", []uintptr{cwd, path("node"), unix.S_IFREG | 0o4755}, unix.EPERM, ok},
		{"mkdirat", []uintptr{cwd, path("dir"), 0o6755}, ok, ok},
		{"personality", []uintptr{0xffffffff}, ok, ok},
		{"personality", []uintptr{0x40000}, unix.EPERM, ok},
		{"seccomp", []uintptr{unix.SECCOMP_GET_NOTIF_SIZES, 0, attr}, ok, ok},
	}
}

// helperCalls prints one errno for each of realCalls.
func helperCalls() error {
	calls := realCalls()
	got := make([]syscall.Errno, len(calls))
	if err := confine(); err != nil {
		return err
	}
	for i, c := range calls {
		nr, ok := Native().Number(c.name)
		if !ok {
			return fmt.Errorf("no call %s", c.name)
		}
		var a [6]uintptr
		copy(a[:], c.args)
		r, _, errno := unix.RawSyscall6(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
		if c.name == "clone" && errno == 0 && r == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0) // a child that should not exist
		}
		got[i] = errno
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// helperForbidden makes one forbidden call, which returns when the listener is
// closed.
func helperForbidden() error {
	if err := confine(); err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 7)
	return fmt.Errorf("ptrace: %w", errno)
}

func helperExec() error {
	file, err := exec.LookPath(os.Args[1])
	if err != nil {
		return err
	}
	if err := confine(); err != nil {
		return err
	}
	return unix.Exec(file, os.Args[1:], os.Environ())
}

// helperThreads is a Go program that behaves: threads, timers, files, a child.
func helperThreads() error {
	done := make(chan error)
	for i := range 8 {
		go func() {
			runtime.LockOSThread()
			time.Sleep(time.Millisecond)
			done <- os.WriteFile(fmt.Sprint("file", i), nil, 0o600)
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			return err
		}
	}
	out, err := exec.Command("echo", "done").Output()
	fmt.Print(string(out))
	return err
}

// helperBench installs a filter n times, each time on a new thread that then
// ends, and prints the nanoseconds of one installation.
func helperBench() error {
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	p, err := Default(Native(), Options{})
	if err != nil {
		return err
	}
	f, err := p.Compile()
	if err != nil {
		return err
	}
	switch os.Args[1] {
	case "linear":
		f = linear(p)
	case "floor":
		f = Filter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(Allow)}}
	}
	var total time.Duration
	failed := make(chan error)
	for range n {
		go func() {
			begin := time.Now()
			_, err := install(f, 0)
			total += time.Since(begin)
			failed <- err
		}()
		if err := <-failed; err != nil {
			return err
		}
	}
	fmt.Println(total.Nanoseconds() / int64(n))
	return nil
}

// linear is the allow list as a chain of comparisons, the naive shape.
func linear(p *Policy) Filter {
	f := Filter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offArch},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(p.Arch), Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(p.Foreign)},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offNr},
	}
	for _, nr := range p.Allow {
		f = append(
			f,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(Allow)},
		)
	}
	return append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(p.Default)})
}
