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
		if !strings.HasPrefix(f.Release, name+".") {
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

// TestRetry: a guest that did not get as far as the program is booted once
// more, and only once.
func TestRetry(t *testing.T) {
	cache, err := debian.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	qemu, data, err := cache.QEMU(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for times, want := range map[int]int{1: 7, 2: 125} {
		count := filepath.Join(base, fmt.Sprint("count", times))
		flaky := filepath.Join(base, fmt.Sprint("qemu", times))
		script := fmt.Sprintf("#!/bin/sh\necho x >> %s\n[ $(wc -l < %s) -gt %d ] || exit 0\nexec %s -L %s \"$@\"\n", count, count, times, strings.Join(qemu, " "), strings.Join(data, " -L "))
		if err := os.WriteFile(flaky, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		r := drive(t, "", "--qemu", flaky, "--", guest, "talk")
		if r.code != want || !strings.Contains(r.err, "booting once more") {
			t.Errorf("%d failed boots: code %d, want %d", times, r.code, want)
		}
	}
}

// TestFullDisk: with no room for what comes back, and for what the guest writes.
func TestFullDisk(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", image, "32m").CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		hosttest.Lack(t, "mke2fs (Debian package e2fsprogs)")
	} else if err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	full := t.TempDir()
	for _, c := range []struct {
		at, want string
		args     []string
	}{
		{full, "could not be written: write " + full + "/made: no space left on device; free some space there", []string{"--return", full + "/made", "--", guest, "write", full + "/made"}},
		{full, "console log: write " + full + "/console: no space left on device", []string{"--console", full + "/console", "--", guest, "write", "/dev/ttyS0"}},
		{"/var/tmp", "a disk of the guest failed while the program ran: free some space in /var/tmp", []string{"--disk", image + ":/mnt", "--", guest, "fill", "/mnt/file"}},
	} {
		// A mount of its own, of which one block is taken.
		const there = `mount -t tmpfs -o "size=$0" none "$1" && echo >"$1/block" && shift && exec "$@"`
		size := map[bool]string{true: "4k", false: "1m"}[c.at == full]
		cmd := exec.Command("unshare", append([]string{"-rm", "sh", "-c", there, size, c.at, runner}, c.args...)...)
		cmd.Dir = base
		if r := finish(t, cmd); r.code != 125 || !strings.Contains(r.err, c.want) {
			t.Errorf("%q: code %d, want 125 and %q", c.args, r.code, c.want)
		}
	}
}

// TestDamagedCache: whatever says so first, the remedy is told.
func TestDamagedCache(t *testing.T) {
	cache, err := debian.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	image, _, err := cache.Kernel(t.Context(), "6.1", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	// The cache again, of links, with another kernel image.
	dir := t.TempDir()
	set, boot := strings.TrimPrefix(filepath.Dir(filepath.Dir(image)), cache.Dir), strings.TrimPrefix(image, cache.Dir)
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(boot)), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/qemu-*", set + "/lib", set + "/usr", set + "/sums", set + "/boot/*"} {
		found, _ := filepath.Glob(cache.Dir + pattern)
		for _, f := range found {
			if err := os.Symlink(f, dir+strings.TrimPrefix(f, cache.Dir)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(dir + boot); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SANDBOXD_VM_CACHE", dir)
	for _, n := range []int{100, 1 << 20} { // no kernel any more, and one that does not boot
		if err := os.WriteFile(dir+boot, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		r := drive(t, "", "--", guest, "talk")
		if r.code != 125 || !strings.Contains(r.err, dir+set+" is damaged: boot/vmlinuz") || !strings.Contains(r.err, "its content has changed; remove that directory, it is fetched again") {
			t.Errorf("a kernel of %d bytes: code %d: %s", n, r.code, r.err)
		}
	}
}

func TestBadInput(t *testing.T) {
	arm := filepath.Join(base, "arm")
	cmd := exec.Command("go", "build", "-o", arm, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := filepath.Join(base, "text")
	if err := os.WriteFile(text, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(base, "script")
	if err := os.WriteFile(script, []byte("#!/no/such\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no program is given", nil},
		{"flag provided but not defined", []string{"--frob", "--", guest}},
		{"no such file", []string{"--", "./nothing"}},
		{"no executable file", []string{"--", text}},
		{"linked dynamically", []string{"--", "/bin/sh"}},
		{"built for AARCH64", []string{"--", arm}},
		{"the guest has no program", []string{"--", "nothing"}},
		{"fork/exec " + script, []string{"--", script}},
		{`no kernel is called "9.9"; there are 6.1`, []string{"--kernel", "9.9", "--", guest}},
		{"is no x86 kernel image", []string{"--kernel", text, "--", guest}},
		{"no such file", []string{"--kernel", base + "/nothing", "--", guest}},
		{"install qemu-system-x86", []string{"--qemu", base + "/nothing", "--", guest}},
		{"ended before the program began: vm: QEMU: exit status 1", []string{"--qemu", "/bin/false", "--", guest}},
		{"holds no file system that this guest knows", []string{"--disk", text + ":/mnt", "--", guest}},
		{"no such file", []string{"--disk", base + "/nothing:/", "--", guest}},
		{"absolute", []string{"--disk", text, "--", guest}},
		{"no size", []string{"--memory", "1", "--", guest}},
		{"no size", []string{"--memory", "99999999999g", "--", guest}},
		{"1 to 64", []string{"--smp", "0", "--", guest}},
		{"1 or more", []string{"--count", "0", "--", guest}},
		{"want v2, hybrid or v1", []string{"--cgroup", "v3", "--", guest}},
		{"want root or user", []string{"--as", "nobody", "--", guest}},
		{"want none or user", []string{"--net", "all", "--", guest}},
		{"below zero", []string{"--timeout", "-5s", "--", guest}},
		{"said nothing for 300ms", []string{"--boot-timeout", "300ms", "--", guest}},
		{"no such file", []string{"--file", base + "/nothing", "--", guest}},
		{"no such file", []string{"--console", base + "/no/dir", "--", guest}},
	} {
		r := drive(t, "", c.args...)
		if r.code != 125 || !strings.Contains(r.err, c.want) || r.out != "" {
			t.Errorf("%q: code %d, want 125 and %q:\n%s", c.args, r.code, c.want, r.err)
		}
	}
}
