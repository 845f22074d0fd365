package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/vm/debian"
)

var (
	base   string // of this test process
	runner string // this command, built
	guest  string // testdata/guest, built
)

func TestMain(m *testing.M) {
	code := 1
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "vmrun:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(base)
	os.Exit(code)
}

// build also makes whatever a runner leaves behind our child, where gone finds it.
func build() (err error) {
	if err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if base, err = os.MkdirTemp("", "vmrun-"); err != nil {
		return err
	}
	runner, guest = filepath.Join(base, "vmrun"), filepath.Join(base, "guest")
	for out, src := range map[string]string{runner: ".", guest: "./testdata/guest"} {
		cmd := exec.Command("go", "build", "-o", out, src)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", src, err, msg)
		}
	}
	return nil
}

// result is what a runner left us with.
type result struct {
	out, err string
	code     int
}

// drive runs it, with nothing of it left afterwards.
func drive(t *testing.T, in string, args ...string) result {
	t.Helper()
	cmd := exec.Command(runner, args...)
	cmd.Dir = base
	cmd.Stdin = strings.NewReader(in)
	return finish(t, cmd)
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	t.Logf("%q: %v\n%s", cmd.Args[1:], err, &errs)
	gone(t)
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// gone fails if a process of the runner's lives on.
func gone(t *testing.T) {
	t.Helper()
	for range 100 {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			return
		}
		if pid == 0 {
			time.Sleep(50 * time.Millisecond) // killed, and dying
		}
	}
	b, _ := os.ReadFile("/proc/thread-self/children")
	t.Errorf("processes %s outlive the runner", b)
}

func TestProgram(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	r := drive(t, big, "--", guest, "talk")
	if r.code != 7 || r.out != "to stdout\n"+big || !strings.Contains(r.err, "to stderr\n") {
		t.Errorf("code %d, %d bytes of output, want 7 and %d", r.code, len(r.out), len(big)+10)
	}
	if strings.Contains(r.out, "stderr") {
		t.Error("stderr came as stdout")
	}
}

func TestEnds(t *testing.T) {
	if r := drive(t, "", "--", guest, "signal"); r.code != 128+15 {
		t.Errorf("SIGTERM gives code %d", r.code)
	}
	if r := drive(t, "", "--", guest, "orphan"); r.code != 0 || r.out != "left one behind\n" {
		t.Errorf("an orphan holds the output: code %d, %q", r.code, r.out)
	}
	r := drive(t, "", "--timeout", "1s", "--", guest, "sleep")
	if r.code != 125 || !strings.Contains(r.err, "not done after 1s") {
		t.Errorf("code %d", r.code)
	}
	r = drive(t, "", "--", guest, "panic")
	if r.code != 125 || r.out != "about to panic\n" || !strings.Contains(r.err, "the guest's kernel panicked while the program ran") || !strings.Contains(r.err, "sysrq") {
		t.Errorf("code %d, %q", r.code, r.out)
	}
	if strings.Contains(r.err, "once more") {
		t.Error("a program was run twice")
	}
}

func TestInterrupt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		for _, when := range []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 0} {
			cmd := exec.Command(runner, "--", guest, "orphan")
			if when == 0 {
				cmd.Args[3] = "talk"
			}
			cmd.Dir = base
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if when == 0 { // the program runs
				if _, err := out.Read(make([]byte, 10)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(when)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			in.Close()
			if want := map[bool]int{true: -1, false: 125}[sig == syscall.SIGKILL]; cmd.ProcessState.ExitCode() != want {
				t.Errorf("%v after %v: code %d, want %d", sig, when, cmd.ProcessState.ExitCode(), want)
			}
			gone(t)
		}
	}
}

// facts is testdata/guest's own.
type facts struct {
	UID, CPUs                                 int
	Dir, Release, Controllers, Handed, Cgroup string
	MakeCgroup, Pivot, Overlay, Loopback      string
	Env                                       map[string]string
	V1                                        []string
}

func look(t *testing.T, flags ...string) (f facts) {
	t.Helper()
	r := drive(t, "", append(flags, "--", guest, "facts")...)
	if err := json.Unmarshal([]byte(r.out), &f); err != nil || r.code != 0 {
		t.Fatalf("code %d, %v: %q", r.code, err, r.out)
	}
	return f
}

func TestGuest(t *testing.T) {
	for _, name := range debian.Kernels() {
		f := look(t, "--kernel", name, "--smp", "2", "--env", "GIVEN=1")
		if !strings.HasPrefix(f.Release, strings.TrimSuffix(name, "-generic")+".") {
			t.Errorf("kernel %s is %s", name, f.Release)
		}
		for what, err := range map[string]string{"pivot_root": f.Pivot, "overlay": f.Overlay, "loopback": f.Loopback, "a cgroup with a limit": f.MakeCgroup} {
			if err != "" {
				t.Errorf("%s: %s: %s", name, what, err)
			}
		}
		for _, c := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
			if !slices.Contains(strings.Fields(f.Controllers), c) || !slices.Contains(strings.Fields(f.Handed), c) {
				t.Errorf("%s: controller %s of %q is not handed down: %q", name, c, f.Controllers, f.Handed)
			}
		}
		if f.UID != 0 || f.CPUs != 2 || f.Dir != base || f.Env["GIVEN"] != "1" || f.Env["HOME"] != "/root" || len(f.V1) != 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCount(t *testing.T) {
	r := drive(t, "input", "--count", "2", "--kernel-matrix", "6.1,9.9", "--", guest, "facts")
	if strings.Count(r.out, "Release") != 2 || r.code != 125 || !strings.Contains(r.err, "vm: 2 runs, 0 boots tried again\n") ||
		!strings.Contains(r.err, "kernel 6.1: exit code 0\n") || !strings.Contains(r.err, "kernel 9.9: exit code 125\n") {
		t.Errorf("code %d, %s", r.code, r.out)
	}
	if r = drive(t, "input", "--count", "3", "--", guest, "talk"); r.code != 7 || r.out != "to stdout\n" {
		t.Errorf("after a failure it went on, or read our input: code %d, %q", r.code, r.out)
	}
}

func TestOrdinaryUser(t *testing.T) {
	f := look(t, "--as", "user")
	if f.UID != 1000 || f.Env["HOME"] != "/home/user" || f.MakeCgroup != "" || f.Loopback != "" || f.Cgroup != "/user/session" {
		t.Errorf("%+v", f)
	}
}

func TestLayouts(t *testing.T) {
	f := look(t, "--cgroup", "hybrid")
	if !slices.Contains(f.V1, "memory") || !slices.Contains(f.V1, "cpu,cpuacct") || f.Controllers != "" || f.Cgroup != "/" {
		t.Errorf("hybrid: %+v", f)
	}
	f = look(t, "--cgroup", "v1")
	if !slices.Contains(f.V1, "memory") || f.Controllers != "" {
		t.Errorf("v1: %+v", f)
	}
}

func TestGoTest(t *testing.T) {
	dir, err := filepath.Abs("testdata/sample")
	if err != nil {
		t.Fatal(err)
	}
	cover, profile := filepath.Join(base, "cover.out"), filepath.Join(base, "cpu.out")
	run := func(flags ...string) result {
		cmd := exec.Command("go", append(append([]string{"test"}, flags...), "-exec", runner+" --env FAIL", ".")...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		return finish(t, cmd)
	}
	r := run("-coverprofile", cover, "-cpuprofile", profile, "-o", filepath.Join(base, "sample.test"))
	if r.code != 0 || !strings.Contains(r.out, "coverage: 66.7% of statements") {
		t.Errorf("code %d: %s", r.code, r.out)
	}
	for path, want := range map[string]string{cover: "sample.go:", profile: "\x1f\x8b"} {
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s came back as %d bytes, %v", path, len(b), err)
		}
	}
	t.Setenv("FAIL", "1")
	r = run()
	if r.code != 1 || !strings.Contains(r.out, "as asked") || !strings.Contains(r.out, "FAIL") || !strings.Contains(r.out+r.err, "console is in") {
		t.Errorf("a failing test: code %d: %s", r.code, r.out)
	}
}

func TestDisks(t *testing.T) {
	tree := filepath.Join(base, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "hello"), []byte("from the disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, mk := range [][]string{{"mke2fs", "-q", "-t", "ext4", "-d", tree, base + "/ext4.img", "32m"}, {"mkfs.erofs", base + "/erofs.img", tree}} {
		if out, err := exec.Command(mk[0], mk[1:]...).CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
			hosttest.Lack(t, "%s (Debian packages e2fsprogs, erofs-utils)", mk[0])
		} else if err != nil {
			t.Fatalf("%s: %v: %s", mk[0], err, out)
		}
	}
	t.Run("ext4", func(t *testing.T) { testDisk(t, base+"/ext4.img") })
	t.Run("erofs", func(t *testing.T) { testDisk(t, base+"/erofs.img") })
}

func testDisk(t *testing.T, image string) {
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if r := drive(t, "", "--disk", image+":/mnt/data", "--", guest, "read", "/mnt/data/hello"); r.out != "from the disk" {
		t.Errorf("a mounted disk: %q", r.out)
	}
	if r := drive(t, "", "--disk", image+":/", "--", guest, "read", "/hello"); r.out != "from the disk" {
		t.Errorf("a root disk: %q", r.out)
	}
	if r := drive(t, "", "--disk", image+":/", "--", guest, "write", "/hello"); r.code != 0 {
		t.Errorf("a root disk is not writable: code %d", r.code)
	}
	if after, err := os.ReadFile(image); err != nil || !bytes.Equal(before, after) {
		t.Error("what the guest wrote is in the image", err)
	}
}

func TestFiles(t *testing.T) {
	out := filepath.Join(base, "made")
	extra := filepath.Join(base, "extra")
	if err := os.WriteFile(extra, []byte("extra"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := drive(t, "", "--file", extra+":/opt/in", "--", guest, "read", "/opt/in"); r.out != "extra" {
		t.Errorf("--file: %q", r.out)
	}
	if r := drive(t, "", "--return", out, "--", guest, "write", out); r.code != 0 {
		t.Errorf("code %d", r.code)
	}
	if b, err := os.ReadFile(out); string(b) != "was here" {
		t.Errorf("--return: %q, %v", b, err)
	}
	// A directory comes back as a whole: coverage of a program that is no test.
	covered, covers := filepath.Join(base, "covered"), filepath.Join(base, "covers")
	cmd := exec.Command("go", "build", "-cover", "-o", covered, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Mkdir(covers, 0o755); err != nil {
		t.Fatal(err)
	}
	drive(t, "", "--env", "GOCOVERDIR="+covers, "--return", covers, "--", covered, "write", out)
	if found, _ := filepath.Glob(covers + "/cov*"); len(found) != 2 {
		t.Errorf("coverage came back as %q", found)
	}
}

func TestNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello guest"))
			c.Close()
		}
	}()
	// The host's loopback, as QEMU's user network shows it.
	at := strings.Replace(l.Addr().String(), "127.0.0.1", "10.0.2.2", 1)
	if r := drive(t, "", "--net", "user", "--", guest, "dial", at); r.out != "hello guest" {
		t.Errorf("--net user: %q", r.out)
	}
	if r := drive(t, "", "--", guest, "dial", at); r.code != 1 || r.out != "" {
		t.Errorf("without a network: code %d, %q", r.code, r.out)
	}
}
