package landlock

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// job is what the helper is told.
type job struct {
	Bench    int // how often to install
	Ruleset  Ruleset
	Root     string // folder made by newTree
	Abstract string // addresses of listeners of the parent
	Pathname string
	TCP      string
	Parent   int
}

// A ruleset cannot be taken off, so it is applied in a process of its own: this
// test binary again, in a role, with its job as the argument.
func TestMain(m *testing.M) {
	role := func(do func(job) error) func() error {
		return func() error {
			var j job
			if err := json.Unmarshal([]byte(os.Args[1]), &j); err != nil {
				return err
			}
			return do(j)
		}
	}
	hosttest.Main(m, map[string]func() error{"try": role(try), "bench": role(bench)})
}

// apply restricts the calling thread. It is never unlocked, so that it dies with the goroutine.
func apply(rs Ruleset) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	attr := rs.Attr()
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)), 0)
	if errno != 0 {
		return fmt.Errorf("create the ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for _, r := range rs.Rules {
		if err := addRule(int(fd), r); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("restrict: %w", errno)
	}
	return nil
}

func addRule(fd int, r Rule) error {
	parent, err := unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", r.Path, err)
	}
	defer unix.Close(parent)
	beneath := unix.LandlockPathBeneathAttr{Allowed_access: r.Access, Parent_fd: int32(parent)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(fd), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("add a rule for %s: %w", r.Path, errno)
	}
	return nil
}

// try applies the ruleset and prints the errno of every attempt.
func try(j job) error {
	in := func(name string) string { return filepath.Join(j.Root, name) }
	open := func(name string, flags int) func() error {
		return func() error {
			fd, err := unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0o600)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
	}
	ioctl := func(name string, req uint) func() error {
		return func() error {
			fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
			if err != nil {
				return fmt.Errorf("open before ioctl: %w", err)
			}
			defer unix.Close(fd)
			_, err = unix.IoctlGetTermios(fd, req)
			return err
		}
	}
	dial := func(network, addr string) func() error {
		return func() error {
			c, err := net.Dial(network, addr)
			if err == nil {
				c.Close()
			}
			return err
		}
	}
	attempts := map[string]func() error{
		"read ro":             open(in("ro/f"), unix.O_RDONLY),
		"list ro":             open(in("ro"), unix.O_RDONLY|unix.O_DIRECTORY),
		"write ro":            open(in("ro/f"), unix.O_WRONLY),
		"truncate ro":         func() error { return unix.Truncate(in("ro/f"), 0) },
		"create in ro":        open(in("ro/new"), unix.O_WRONLY|unix.O_CREAT),
		"exec ro":             exec.Command(in("ro/true")).Run,
		"exec bin":            exec.Command(in("bin/true")).Run,
		"exec rw":             exec.Command(in("rw/true")).Run,
		"create in rw":        open(in("rw/new"), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC),
		"mkdir in rw":         func() error { return unix.Mkdir(in("rw/dir"), 0o700) },
		"symlink in rw":       func() error { return unix.Symlink("f", in("rw/link")) },
		"fifo in rw":          func() error { return unix.Mkfifo(in("rw/fifo"), 0o600) },
		"device in rw":        func() error { return unix.Mknod(in("rw/dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, // 0:0 is a whiteout, to Linux 7.3 no device
		"rename in rw":        func() error { return unix.Rename(in("rw/a"), in("rw/b")) },
		"rename rw to rw2":    func() error { return unix.Rename(in("rw/c"), in("rw2/c")) },
		"rename rw to ro":     func() error { return unix.Rename(in("rw/d"), in("ro/d")) },
		"unlink in rw":        func() error { return unix.Unlink(in("rw/e")) },
		"unlink in ro":        func() error { return unix.Unlink(in("ro/f")) },
		"read hidden":         open(in("hidden/f"), unix.O_RDONLY),
		"list hidden":         open(in("hidden"), unix.O_RDONLY|unix.O_DIRECTORY),
		"read file":           open(in("files/granted"), unix.O_RDONLY),
		"write file":          open(in("files/granted"), unix.O_RDWR|unix.O_TRUNC),
		"read its sibling":    open(in("files/other"), unix.O_RDONLY),
		"ioctl device":        ioctl("/dev/null", unix.TCGETS),
		"ioctl no device":     ioctl("/dev/zero", unix.TCGETS),
		"ioctl terminal":      terminal,
		"connect abstract":    dial("unix", "@"+j.Abstract),
		"connect pathname":    dial("unix", j.Pathname),
		"connect own":         ownSocket,
		"connect TCP":         dial("tcp", j.TCP),
		"signal the parent":   func() error { return unix.Kill(j.Parent, 0) },
		"signal itself":       func() error { return unix.Kill(os.Getpid(), 0) },
		"bind TCP":            bindTCP,
		"UDP socket":          dial("udp", j.TCP),
		"dir rights on files": nil, // before the ruleset is applied
	}
	got := map[string]int{}
	note := func(name string, err error) {
		var errno syscall.Errno
		if err != nil && !errors.As(err, &errno) {
			errno = 4095 // no errno at all
			fmt.Fprintln(os.Stderr, name, err)
		}
		got[name] = int(errno)
	}
	note("dir rights on files", dirRightsOnFile(in("files/granted")))
	delete(attempts, "dir rights on files")
	if err := apply(j.Ruleset); err != nil {
		return err
	}
	for name, attempt := range attempts {
		note(name, attempt())
	}
	return json.NewEncoder(os.Stdout).Encode(got)
}

// dirRightsOnFile adds a rule with a right for directories to a file.
func dirRightsOnFile(name string) error {
	attr := Ruleset{HandledFS: grantRead}.Attr()
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr[0])), uintptr(len(attr)), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	return addRule(int(fd), Rule{Path: name, Access: grantRead})
}

// terminal opens a new terminal by its path and asks for its size.
func terminal() error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(master)
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	tty, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(tty)
	_, err = unix.IoctlGetWinsize(tty, unix.TIOCGWINSZ)
	return err
}

// ownSocket connects to an abstract socket of the same sandbox.
func ownSocket() error {
	l, err := net.Listen("unix", "@landlock-own-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return err
	}
	return c.Close()
}

func bindTCP() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
}

// bench prints the nanoseconds of one application, each on a fresh thread.
func bench(j job) error {
	var total time.Duration
	failed := make(chan error)
	for range j.Bench {
		go func() {
			begin := time.Now()
			err := apply(j.Ruleset)
			total += time.Since(begin)
			failed <- err
		}()
		if err := <-failed; err != nil {
			return err
		}
	}
	fmt.Println(total.Nanoseconds() / int64(j.Bench))
	return nil
}

func helper(t testing.TB, role string, j job) []byte {
	t.Helper()
	told, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd := hosttest.Command(role, string(told))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helper: %v", err)
	}
	return out
}
