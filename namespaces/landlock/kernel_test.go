package landlock

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// need returns the ABI of this kernel.
func need(t testing.TB) int {
	t.Helper()
	abi, err := ABI()
	if errors.Is(err, ErrUnsupported) {
		hosttest.Lack(t, "Landlock: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	return abi
}

func TestABI(t *testing.T) {
	abi := need(t)
	if again, err := ABI(); again != abi || err != nil || abi < 1 {
		t.Errorf("ABI %d, then %d, %v", abi, again, err)
	}
}

// newTree makes the files that the helper tries, and a policy for them.
func newTree(t testing.TB) (string, Policy) {
	t.Helper()
	root := t.TempDir()
	in := func(name string) string { return filepath.Join(root, name) }
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	program, err = filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"ro/f", "ro/true", "bin/true", "rw/true", "rw/a", "rw/c", "rw/d", "rw/e", "rw2/f", "hidden/f", "files/granted", "files/other",
	} {
		if err := os.MkdirAll(filepath.Dir(in(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(name), code, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	libraries := Paths{}
	for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} { // what a dynamic "true" maps, and the loader it runs
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			libraries.ReadExec = append(libraries.ReadExec, real)
		}
	}
	return root, Policy{
		Dirs: Paths{
			Read:      []string{in("ro")},
			ReadExec:  append(libraries.ReadExec, in("bin")),
			ReadWrite: []string{in("rw"), in("rw2")},
			Device:    []string{"/dev/pts"},
		},
		Files: Paths{
			Read:      []string{in("files/granted")},
			ReadWrite: []string{"/dev/zero"},
			Device:    []string{"/dev/null", "/dev/ptmx"},
		},
		NoInet: true,
	}
}

func TestKernelAnswers(t *testing.T) {
	abi := need(t)
	root, policy := newTree(t)
	abstract, err := net.Listen("unix", fmt.Sprintf("@landlock-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	pathname, err := net.Listen("unix", filepath.Join(root, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer pathname.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()

	for _, granted := range []bool{false, true} { // the pathname socket
		if granted {
			root, policy = newTree(t)
			policy.Files.Socket = []string{pathname.Addr().String()}
		}
		rs, err := policy.Compile(abi)
		if err != nil {
			t.Fatal(err)
		}
		out := helper(t, "try", job{
			Ruleset: rs, Root: root, Parent: os.Getpid(),
			Abstract: strings.TrimPrefix(abstract.Addr().String(), "@"), Pathname: pathname.Addr().String(), TCP: tcp.Addr().String(),
		})
		var got map[string]int
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		since := func(first int, e syscall.Errno) syscall.Errno { // e, if this kernel restricts that at all
			if abi < first {
				return 0
			}
			return e
		}
		want := map[string]syscall.Errno{
			"read ro": 0, "list ro": 0, "write ro": unix.EACCES, "truncate ro": since(3, unix.EACCES), "create in ro": unix.EACCES,
			"exec ro": unix.EACCES, "exec bin": 0, "exec rw": unix.EACCES,
			"create in rw": 0, "mkdir in rw": 0, "symlink in rw": 0, "fifo in rw": 0, "device in rw": unix.EACCES,
			"rename in rw": 0, "rename rw to rw2": 0, "rename rw to ro": unix.EACCES, "unlink in rw": 0, "unlink in ro": unix.EACCES,
			"read hidden": unix.EACCES, "list hidden": unix.EACCES,
			"read file": 0, "write file": unix.EACCES, "read its sibling": unix.EACCES, "dir rights on files": unix.EINVAL,
			"ioctl device": unix.ENOTTY, "ioctl no device": unix.ENOTTY, "ioctl terminal": 0,
			"connect abstract": since(6, unix.EPERM), "connect pathname": since(9, unix.EACCES), "connect own": 0,
			"connect TCP": since(4, unix.EACCES), "bind TCP": since(4, unix.EACCES), "UDP socket": since(10, unix.EACCES),
			"signal the parent": since(6, unix.EPERM), "signal itself": 0,
		}
		if abi < 2 {
			want["rename rw to rw2"] = unix.EXDEV
		}
		if abi >= 5 {
			want["ioctl no device"] = unix.EACCES
		}
		if granted {
			want["connect pathname"] = 0
		}
		if len(got) != len(want) {
			t.Errorf("%d attempts, %d expectations", len(got), len(want))
		}
		for name, errno := range want {
			if have, ok := got[name]; !ok || syscall.Errno(have) != errno {
				t.Errorf("%s: %v (tried: %v), want %v", name, syscall.Errno(have), ok, errno)
			}
		}
	}
}

// Rulesets for older ABIs are valid on this kernel, and what they miss is
// really not restricted.
func TestKernelTakesOlderABIs(t *testing.T) {
	abi := need(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for old := 1; old <= abi; old++ {
		root, policy := newTree(t)
		rs, err := policy.Compile(old)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]int
		if err := json.Unmarshal(helper(t, "try", job{Ruleset: rs, Root: root, Parent: os.Getpid(), TCP: tcp.Addr().String(), Abstract: "none", Pathname: root}), &got); err != nil {
			t.Fatal(err)
		}
		for name, first := range map[string]int{"truncate ro": 3, "connect TCP": 4, "signal the parent": 6} {
			if denied := got[name] != 0; denied != (old >= first) {
				t.Errorf("ABI %d: %s: denied %v", old, name, denied)
			}
		}
	}
}

// BenchmarkApply measures what a program pays to create the ruleset, open the paths
// of 11 rules, add them and restrict itself: about 60 µs on a virtual machine with
// Linux 6.18.
func BenchmarkApply(b *testing.B) {
	_, policy := newTree(b)
	rs, err := policy.Compile(need(b))
	if err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseFloat(strings.TrimSpace(string(helper(b, "bench", job{Bench: b.N, Ruleset: rs}))), 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(ns, "ns/apply")
	b.ReportMetric(0, "ns/op") // includes the start of the helper
	b.ReportMetric(float64(len(rs.Rules)), "rules")
}
