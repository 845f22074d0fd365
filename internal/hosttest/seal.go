package hosttest

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sealEnv is the directory that may be written to of a test binary that is to
// be sealed; empty once it is.
const sealEnv = "SANDBOXD_TEST_SEAL"

// errSeal is why this process is not sealed.
var errSeal = errors.New("TestMain does not call hosttest.Seal")

// Seal is the body of TestMain where tests let attacks loose in this very
// process. It runs the tests in a mount namespace in which everything is
// read-only but TMPDIR, a fresh directory, and what the go command wants
// written: its logs and profiles, and while it fuzzes, the package's directory.
// So a mistake under test harms nobody. Tests say by [Sealed] that they need it.
func Seal(m *testing.M) {
	dir, ok := os.LookupEnv(sealEnv)
	if !ok {
		os.Exit(runSealed(m))
	}
	if errSeal = nil; dir != "" {
		errSeal = seal(dir)
		os.Setenv(sealEnv, "")
	}
	os.Exit(m.Run())
}

// Sealed skips a test, by [Lack], if it does not run below [Seal].
func Sealed(tb testing.TB) {
	tb.Helper()
	err := errSeal
	var fs unix.Statfs_t
	if err == nil {
		err = unix.Statfs("/", &fs)
	}
	if err == nil && fs.Flags&unix.ST_RDONLY == 0 {
		err = errors.New("/ can be written to")
	}
	if err != nil {
		Lack(tb, "a read-only view of itself, in which an attack does no harm: %v", err)
	}
}

// runSealed runs this binary once more, in namespaces of its own.
func runSealed(m *testing.M) int {
	runtime.LockOSThread() // the child dies with the thread that made it
	dir, err := os.MkdirTemp("", "sealed")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o711) // tests play other users
	}
	if err != nil {
		errSeal = err
		return m.Run()
	}
	self, _ := os.Executable()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), sealEnv+"="+dir, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		signal.Reset()
		errSeal = err
		return m.Run()
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	var exit *exec.ExitError
	switch err := cmd.Wait(); {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "sealed tests:", err)
		return 1
	}
}

// seal makes all that this process sees read-only, but dir and what the go command wants.
func seal(dir string) error {
	flag.Parse()
	writable := []string{dir}
	for _, f := range []struct {
		name string
		file bool
	}{{"test.testlogfile", true}, {"test.coverprofile", true}, {"test.gocoverdir", false}, {"test.outputdir", false}, {"test.fuzzcachedir", false}} {
		switch l := flag.Lookup(f.name); {
		case l == nil || l.Value.String() == "":
		case f.file:
			writable = append(writable, filepath.Dir(l.Value.String()))
		default:
			writable = append(writable, l.Value.String())
		}
	}
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	if l := flag.Lookup("test.fuzz"); l != nil && l.Value.String() != "" {
		writable = append(writable, cwd) // for testdata/fuzz
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, d := range writable {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(d, d, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", d, err)
		}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make / read-only: %w", err)
	}
	for _, d := range writable {
		if err := unix.MountSetattr(unix.AT_FDCWD, d, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("make %s writable: %w", d, err)
		}
	}
	return os.Chdir(cwd) // onto its bind, if there is one
}
