package spawntest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/launcher"
)

const (
	// RoleEnv makes a test binary play one of the roles given to Main instead of testing.
	RoleEnv = hosttest.RoleEnv
	// ObjectEnv names a file that is used in place of the committed init.
	ObjectEnv = "SANDBOXD_SPAWNTEST_OBJECT"
	// victimEnv tells a test that it is to be killed by another one.
	victimEnv = "SANDBOXD_SPAWNTEST_VICTIM"

	// Ordinary is the id of a user that no system has.
	Ordinary = 1567
)

// Main is the body of TestMain, as that of hosttest. The tests run with a
// directory for temporary files that Watch looks through, and as the parent of
// all orphans.
func Main(m *testing.M, roles map[string]func()) {
	plays := map[string]func() error{peerRole: playPeer, exeRole: playExe}
	for name, play := range roles {
		plays[name] = func() error { play(); return nil }
	}
	hosttest.Play(plays)
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGURG) // starts a goroutine that every process keeps once it has it
	signal.Stop(c)
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "spawntest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	syscall.Umask(0o022)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 1, err
	}
	if name := os.Getenv(ObjectEnv); name != "" {
		object, err := os.ReadFile(name)
		if err != nil {
			return 1, err
		}
		launcher.Object = func() string { return string(object) }
	}
	if os.Getenv(victimEnv) != "" { // nobody will be left to tidy up: that is for who kills us
		return m.Run(), nil
	}
	base, err := os.MkdirTemp("", "sbt") // short: sockets are made below it
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o755); err != nil {
		return 1, err
	}
	if err := os.Setenv("TMPDIR", base); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// Lack is that of hosttest.
func Lack(t testing.TB, format string, args ...any) {
	t.Helper()
	hosttest.Lack(t, format, args...)
}

// Root skips a test that only root can do.
func Root(t testing.TB) {
	t.Helper()
	hosttest.NeedRoot(t)
}

// Rounds is how often a loop runs: a little, or with SANDBOXD_SOAK=1 a lot.
func Rounds(few, many int) int {
	if os.Getenv("SANDBOXD_SOAK") == "1" {
		return many
	}
	return few
}

// Dir is a directory for the time of the test. Unlike that of t.TempDir, its
// name is short enough for sockets, and everyone may enter it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Ignore makes this process ignore signals for the time of the test.
func Ignore(t testing.TB, signals ...os.Signal) {
	signal.Ignore(signals...)
	t.Cleanup(func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, signals...) // Reset alone undoes Notify only
		signal.Reset(signals...)
	})
}

// Self is a copy of the test binary that every user can execute.
func Self(t testing.TB) string {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	name := filepath.Join(Dir(t), "self")
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// AsUserWithIDs is SomeAsUser for a user with subordinate ids: /etc/subuid and
// /etc/subgid say so in a mount namespace of the tests' own.
func AsUserWithIDs(t *testing.T, pattern, skip string, env ...string) {
	t.Helper()
	Root(t)
	for _, program := range []string{"newuidmap", "newgidmap", "unshare", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			hosttest.Lack(t, "subordinate ids: %v", err)
		}
	}
	if _, err := os.Stat("/etc/subuid"); err != nil { // where another is shown
		hosttest.Lack(t, "subordinate ids: %v", err)
	}
	dir := Dir(t)
	for file, line := range map[string]string{
		"subuid": fmt.Sprintf("%d:%d:65536\n", Ordinary, firstSubordinate), "subgid": fmt.Sprintf("%d:%d:65536\n", Ordinary, firstSubordinate),
		"passwd": fmt.Sprintf("sandboxd-test:x:%d:%d::/:/bin/sh\n", Ordinary, Ordinary), // newuidmap asks for the name
	} {
		have, err := os.ReadFile("/etc/" + file)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, file), append(have, line...), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	asUser(t, pattern, skip, func(cmd *exec.Cmd) {
		const script = `for f in subuid subgid passwd; do mount --bind "$0/$f" /etc/$f || exit; done; exec setpriv --reuid "$1" --regid "$1" --clear-groups --inh-caps=-all "${@:2}"`
		cmd.Args = append([]string{"unshare", "-m", "bash", "-c", script, dir, strconv.Itoa(Ordinary)}, cmd.Args...)
		cmd.Path, _ = exec.LookPath("unshare")
	}, env...)
}

// firstSubordinate begins the subordinate ids of AsUserWithIDs: a range that nobody else has.
const firstSubordinate = 1879048192 - 1<<20

// Again prepares a run of the test binary self, for the tests that match
// pattern and do not match skip ("": none), as short as this one.
func Again(t testing.TB, self, pattern, skip string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), self, "-test.run", pattern, "-test.skip", skip, "-test.timeout", hosttest.Patience(300).String(), "-test.v",
		"-test.short="+strconv.FormatBool(testing.Short()))
	cmd.Env = append(os.Environ(), append(env, "GORACE=atexit_sleep_ms=0")...)
	return cmd
}

// Expect runs what Again made and relays its verdict.
func Expect(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var told strings.Builder
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "=== ") && !strings.Contains(line, "--- PASS") {
			told.WriteString(line)
		}
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, told.String())
	} else {
		t.Log("passed; of what was said:\n", told.String())
	}
}

// AsUser runs the tests of this binary, but for those that match skip, once
// more as an ordinary user.
func AsUser(t *testing.T, skip string) {
	t.Helper()
	SomeAsUser(t, ".", skip)
}

// SomeAsUser is AsUser for the tests that match pattern.
func SomeAsUser(t *testing.T, pattern, skip string, env ...string) {
	t.Helper()
	asUser(t, pattern, skip, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: Ordinary, Gid: Ordinary}}
	}, env...)
}

func asUser(t *testing.T, pattern, skip string, become func(*exec.Cmd), env ...string) {
	t.Helper()
	Root(t)
	self := Self(t)
	home := Dir(t)
	if err := os.Chown(home, Ordinary, Ordinary); err != nil {
		t.Fatal(err)
	}
	skip = strings.TrimSuffix("^"+t.Name()+"$|"+skip, "|")
	cmd := Again(t, self, pattern, skip, append(env, "TMPDIR="+home, "HOME="+home)...)
	become(cmd)
	Expect(t, cmd)
}
