package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// deadline ends a run that should have ended long ago. It asserts nothing
// about speed: a run that reaches it hangs.
var deadline = hosttest.Patience(120)

var (
	base     string // of this test process, readable by all
	sandboxd string // the program
	helper   string // of its container backend
	hostile  string // compiled hostile programs
)

func TestMain(m *testing.M) {
	apart()
	code := 1
	undo, err := shareOut()
	if err == nil {
		err = setup()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration: set up:", err)
	} else {
		code = m.Run()
	}
	for _, c := range canaries {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	undo()
	os.RemoveAll(base)
	os.Exit(code)
}

// apart moves root's tests into a mount namespace of their own, before anything
// else happens: no sandboxd, however broken or fake, can mount over the
// machine's directories. Mounts propagate within it, as they do on most hosts,
// so that one which gets out of its sandbox is seen by the leak check.
func apart() {
	const mark = "SANDBOXD_INTEGRATION_APART" // our pid, which exec(2) keeps
	if os.Geteuid() != 0 || os.Getenv(mark) == strconv.Itoa(os.Getpid()) {
		return
	}
	runtime.LockOSThread() // unshare(2) is for this thread, and exec(2) makes it the only one
	err := unix.Unshare(unix.CLONE_NEWNS)
	if errors.Is(err, unix.EPERM) {
		return // who may not do this may not mount either
	}
	for _, how := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|how, "")
		}
	}
	if err == nil {
		err = syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), mark+"="+strconv.Itoa(os.Getpid())))
	}
	fmt.Fprintln(os.Stderr, "integration: move into a mount namespace of our own:", err)
	os.Exit(1)
}

// setup builds everything, and adopts orphans: whatever a run leaves behind
// becomes a child of this process, where the leak check finds it.
func setup() (err error) {
	syscall.Umask(0o022)
	if err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if base, err = os.MkdirTemp("", "sandboxd-integration-"); err != nil {
		return err
	}
	if err = os.Chmod(base, 0o755); err != nil {
		return err
	}
	if sandboxd = os.Getenv("SANDBOXD_BINARY"); sandboxd == "" {
		sandboxd = filepath.Join(base, "sandboxd")
		if out, err := exec.Command("go", "build", "-o", sandboxd, "../cmd/sandboxd").CombinedOutput(); err != nil {
			return fmt.Errorf("build sandboxd: %w\n%s", err, out)
		}
	}
	if helper = os.Getenv("SANDBOXD_CONTAINER"); helper == "" {
		helper = filepath.Join(base, "sandboxd-container")
		if out, err := exec.Command("make", "--no-print-directory", "-C", "..", "CONTAINER="+helper, helper).CombinedOutput(); err != nil {
			return fmt.Errorf("build sandboxd-container: %w\n%s", err, out)
		}
	}
	var host []string
	for _, ns := range spaces {
		name, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			return err
		}
		host = append(host, name)
	}
	if err = prepareHostile(strings.Join(host, " ")); err != nil {
		return err
	}
	if err = proveWalls(strings.Join(host, " ")); err != nil {
		return err
	}
	return placeCanaries()
}

// spaces are the namespaces without which a hostile program could hurt the host.
var spaces = []string{"pid", "mnt", "user"}

// proveWalls refuses to go on with a sandboxd that runs programs, but not in a
// sandbox: the tests would attack the host.
func proveWalls(host string) error {
	for _, ns := range spaces {
		out, err := exec.Command(sandboxd, "run", "--", "/bin/readlink", "/proc/self/ns/"+ns).Output()
		if theirs := strings.TrimSpace(string(out)); err == nil && (strings.Contains(host, theirs) || !strings.HasPrefix(theirs, ns+":[")) {
			return fmt.Errorf("%s runs a program in %s namespace %q, ours are %s: nothing will be attacked", sandboxd, ns, theirs, host)
		}
	}
	return nil
}

// prepareHostile builds hostile/*.c and copies the scripts, all of them tied to
// refuse to run in any of our own namespaces.
func prepareHostile(host string) error {
	hostile = filepath.Join(base, "hostile")
	if err := os.Mkdir(hostile, 0o755); err != nil {
		return err
	}
	files, err := os.ReadDir("hostile")
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	errs := make([]error, len(files))
	for i, f := range files {
		from, to := filepath.Join("hostile", f.Name()), filepath.Join(hostile, f.Name())
		switch filepath.Ext(from) {
		case ".c":
			group.Go(func() {
				msg, err := exec.Command("gcc", "-static", "-O1", "-Wall", "-Werror", "-pthread", fmt.Sprintf("-DHOST_NAMESPACES=%q", host), "-o", strings.TrimSuffix(to, ".c"), from).CombinedOutput()
				if err != nil {
					errs[i] = fmt.Errorf("compile %s: %w\n%s", from, err, msg)
				}
			})
		case ".py":
			b, err := os.ReadFile(from)
			errs[i] = errors.Join(err, os.WriteFile(to, bytes.ReplaceAll(b, []byte("HOST_NAMESPACES"), strconv.AppendQuote(nil, host)), 0o644))
		}
	}
	group.Wait()
	return errors.Join(errs...)
}

// caller is who runs sandboxd.
type caller struct {
	flags []string // in front of all others
	uid   int
	home  string // private; also holds what XDG_RUNTIME_DIR and TMPDIR name

	scopes []*os.File // cgroups in which a sandboxd began
}

func (c *caller) root() bool { return c.uid == 0 }

// backend is what the report of a run says, unless the run names another one.
func (c *caller) backend() string {
	if len(c.flags) > 0 {
		return "container"
	}
	return "native"
}

// everyone runs f as root, as an ordinary user, or as ourselves where we are one,
// and as root in containers of libcontainer, each followed by the leak check.
func everyone(t *testing.T, f func(*testing.T, *caller)) {
	t.Run("root", func(t *testing.T) { f(t, asRoot(t)) })
	t.Run("user", func(t *testing.T) { f(t, asUser(t)) })
	t.Run("container", func(t *testing.T) {
		c := asRoot(t)
		c.flags = []string{"--backend", "container", "--container-helper", helper}
		f(t, c)
	})
}

// asRoot makes the test one of root's; the leak check follows it.
func asRoot(t *testing.T) *caller {
	t.Helper()
	spawntest.Root(t)
	return newCaller(t, 0)
}

// asUser makes the test one of an ordinary user's; the leak check follows it.
func asUser(t *testing.T) *caller {
	t.Helper()
	uid := os.Geteuid()
	if uid == 0 {
		uid = spawntest.Ordinary
	}
	c := newCaller(t, uid)
	try := c.exec("unshare", "--user", "--map-root-user", "--pid", "--net", "--mount", "--fork", "true")
	if out, err := try.CombinedOutput(); err != nil {
		hosttest.Lack(t, "user namespaces for uid %d: %v: %s", uid, err, out)
	}
	return c
}

// program skips where a program or file of the host is missing.
func program(t *testing.T, path, pkg string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		hosttest.Lack(t, "%s (Debian package %s)", path, pkg)
	}
}

func newCaller(t *testing.T, uid int) *caller {
	t.Helper()
	c := &caller{uid: uid}
	c.home = c.dir(t)
	for _, d := range []string{"run", "tmp"} {
		if err := errors.Join(os.Mkdir(filepath.Join(c.home, d), 0o700), os.Chown(filepath.Join(c.home, d), uid, uid)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { c.dropScopes(t) })
	watchHost(t, c)
	return c
}

// dir is a fresh directory that belongs to the caller. Unlike t.TempDir, the way to it is open.
func (c *caller) dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp(base, "dir-")
	if err == nil {
		err = errors.Join(os.Chmod(d, 0o755), os.Chown(d, c.uid, c.uid))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error("remove what the test made:", err)
		}
	})
	return d
}

// exec is a command of the caller's, outside of any sandbox.
func (c *caller) exec(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + c.home, "TMPDIR=" + c.home + "/tmp", "LANG=C.UTF-8", "TERM=xterm"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !c.root() {
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+c.home+"/run")
	}
	if c.uid != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}
	}
	return cmd
}

// result is what sandboxd left us with.
type result struct {
	flags          string
	stdout, stderr string
	code           int
	report         *sandbox.Report // nil: it wrote none
	raw            []byte          // as written
}

// running is a sandboxd that was prepared, and perhaps started.
type running struct {
	*exec.Cmd
	flags      string
	out, err   bytes.Buffer
	reportFile string
}

// prepare makes `sandboxd run FLAGS -- ARGV`. The flags are split at spaces.
func (c *caller) prepare(t *testing.T, flags string, argv ...string) *running {
	t.Helper()
	r := &running{flags: flags, reportFile: filepath.Join(c.dir(t), "report.json")}
	args := append([]string{"run", "--report", r.reportFile}, c.flags...)
	args = append(args, strings.Fields(flags)...) // the last one holds
	r.Cmd = c.exec(sandboxd, append(append(args, "--"), argv...)...)
	c.scope(t, r.Cmd)
	r.Stdout, r.Stderr = &r.out, &r.err
	r.WaitDelay = hosttest.Patience(10)
	return r
}

// run runs a program in a sandbox to its end, after which nothing may be left of it.
func (c *caller) run(t *testing.T, flags string, argv ...string) *result {
	t.Helper()
	return c.prepare(t, flags, argv...).run(t)
}

// attack runs one of the hostile programs.
func (c *caller) attack(t *testing.T, flags string, argv ...string) *result {
	t.Helper()
	argv[0] = "/hostile/" + argv[0]
	return c.run(t, flags+" --mount "+hostile+":/hostile:ro", argv...)
}

func (r *running) run(t *testing.T) *result {
	t.Helper()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r.wait(t)
}

// wait returns when sandboxd has ended. One that does not end is asked for its
// goroutines and then killed.
func (r *running) wait(t *testing.T) *result {
	t.Helper()
	res := r.waitLoosely(t)
	if left := descendants(); len(left) != 0 {
		t.Errorf("sandboxd run %s: left running when it returned: %v", r.flags, left)
		time.Sleep(100 * time.Millisecond)
		spawntest.Reap() // so that the next run is not blamed for it
	}
	return res
}

// waitLoosely is wait for a sandboxd that was killed, which cannot tidy up first.
func (r *running) waitLoosely(t *testing.T) *result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = r.Process.Signal(syscall.SIGQUIT)
		time.Sleep(2 * time.Second)
		_ = syscall.Kill(-r.Process.Pid, syscall.SIGKILL)
	})
	defer stop()
	err := r.Wait()
	if ctx.Err() != nil {
		t.Fatalf("sandboxd run %s: still running after %v\n%s", r.flags, deadline, r.err.String())
	}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatalf("sandboxd run %s: %v\n%s", r.flags, err, r.err.String())
	}
	res := &result{flags: r.flags, stdout: r.out.String(), stderr: r.err.String(), code: r.ProcessState.ExitCode()}
	if res.report, res.raw, err = readReport(r.reportFile); err != nil {
		t.Errorf("sandboxd run %s: %v", r.flags, err)
	}
	return res
}

// readReport is strict: a field that package sandbox does not know is an error.
func readReport(file string) (*sandbox.Report, []byte, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) == 0 {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	rep := &sandbox.Report{}
	if err := d.Decode(rep); err != nil {
		return nil, b, fmt.Errorf("report: %w\n%s", err, b)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, b, fmt.Errorf("report: more than one value: %s", b)
	}
	return rep, b, nil
}

// want asserts how a run ended, by its exit code and by its report.
func (r *result) want(t *testing.T, code int, reason sandbox.Reason) {
	t.Helper()
	got := sandbox.Reason("no report")
	if r.report != nil {
		got = r.report.Exit.Reason
		if r.report.Exit.Code != r.code {
			t.Errorf("sandboxd run %s: exit code %d, but its report says %d", r.flags, r.code, r.report.Exit.Code)
		}
	}
	if r.code != code || got != reason {
		t.Errorf("sandboxd run %s: exit %d (%s), want %d (%s)%s", r.flags, r.code, got, code, reason, r.tail())
	}
}

// refused asserts that nothing ran, that stderr says why in words, and returns what it says.
func (r *result) refused(t *testing.T, words ...string) {
	t.Helper()
	if r.code != 125 {
		t.Errorf("sandboxd run %s: exit %d, want 125%s", r.flags, r.code, r.tail())
	}
	for _, w := range words {
		if !strings.Contains(strings.ToLower(r.stderr), w) {
			t.Errorf("sandboxd run %s: the refusal does not speak of %q%s", r.flags, w, r.tail())
		}
	}
	if r.stdout != "" {
		t.Errorf("sandboxd run %s: refused, but stdout has %q", r.flags, r.stdout)
	}
}

func (r *result) missing(what string) bool {
	if r.report != nil {
		for _, m := range r.report.Isolation.Missing {
			if strings.Contains(m.What, what) && m.Reason != "" {
				return true
			}
		}
	}
	return false
}

func (r *result) tail() string {
	cut := func(s string) string { return s[max(0, len(s)-2000):] }
	var detail string
	if r.report != nil {
		detail = r.report.Exit.Detail
	}
	return fmt.Sprintf("\n  detail: %s\n  stdout: %q\n  stderr: %q", detail, cut(r.stdout), cut(r.stderr))
}
