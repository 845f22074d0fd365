package launcher_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

// sections are plans to begin with: every kind alone, and two that hang together.
func sections(t *testing.T) [][]plan.Step {
	t.Helper()
	var all [][]plan.Step
	for k := plan.Kind(1); k.String() != fmt.Sprintf("step-%d", k); k++ {
		nums, strs := operands(t, k)
		all = append(all, []plan.Step{{Kind: k, Nums: nums, Strs: strs}})
	}
	nonce := strings.Repeat("n", 16)
	return append(all,
		[]plan.Step{
			step(plan.Fsmount, []uint64{3, 0}, "tmpfs", "mode=0755\x00\x00size\x0016m\x00"), step(plan.Attach, []uint64{plan.Cwd, 3, 0}, "/a/b/c"),
			step(plan.WriteFile, []uint64{plan.Cwd, 0o644, plan.Exist}, "/etc/passwd", "root:x:0:0::/:\n"), step(plan.Sync, nil),
			step(plan.Connect, []uint64{1, 1}, "/run/peer.sock", "actor", nonce),
		},
		[]plan.Step{
			step(plan.Fork, []uint64{0}), step(plan.Stdio, []uint64{16, 17, 18}), step(plan.Seccomp, []uint64{0}, strings.Repeat("\x06\x00\x00\x00\x00\x00\xff\x7f", 8)),
			step(plan.Confined, nil), step(plan.Exec, []uint64{3, 2}, "sh", "sh\x00-c\x00true\x00", "PATH=/bin\x00A=\x00", "/usr/bin::/bin:/"+strings.Repeat("x", 4090)),
		},
		// Strings around the sizes of the init's own buffers.
		[]plan.Step{step(plan.Connect, []uint64{1, 1}, "/run/peer.sock", "actor", nonce[:1])},
		[]plan.Step{step(plan.Connect, []uint64{1, 1}, "/run/peer.sock", strings.Repeat("a", 64), nonce), step(plan.Hostname, nil, strings.Repeat("h", 9000))},
		[]plan.Step{step(plan.Connect, []uint64{1, 1}, "/run/peer.sock", strings.Repeat("a", 300), nonce)},
		[]plan.Step{step(plan.Connect, []uint64{1, 1}, strings.Repeat("p", 200), "actor", nonce)},
		[]plan.Step{step(plan.Listen, []uint64{plan.SlotListen, 42}, strings.Repeat("p", 200))},
		[]plan.Step{step(plan.Mkdir, []uint64{plan.Cwd, 0o755, 0, 0, 0}, strings.Repeat("/"+strings.Repeat("d", 200), 30))},
		[]plan.Step{step(plan.Fsmount, []uint64{3, 0}, "tmpfs", "key without value")},
		[]plan.Step{step(plan.Exec, []uint64{1, 0}, "sh", "sh\x00", "", strings.Repeat("x", 4092)+":"+strings.Repeat("y", 4093)+":"+strings.Repeat("z", 9000))},
		[]plan.Step{step(plan.Exec, []uint64{3, 3}, "sh", "sh\x00", "", "")},
		[]plan.Step{step(plan.ExecFD, []uint64{3, 3, 16}, "sh\x00", "")},
		[]plan.Step{step(plan.ExecFD, []uint64{200, 200, 99}, strings.Repeat("a\x00", 200), strings.Repeat("B=1\x00", 200))},
		[]plan.Step{step(plan.Exec, []uint64{200, 200}, "/bin/true", strings.Repeat("a\x00", 200), strings.Repeat("B=1\x00", 200), "")},
	)
}

// operands finds how many a kind has by what it calls them.
func operands(t *testing.T, k plan.Kind) (nums []uint64, strs []string) {
	t.Helper()
	named := func(nn, ns int) int { // operands without a name of their own
		s := plan.Step{Kind: k, Nums: make([]uint64, nn), Strs: make([]string, ns)}
		n := 0
		for _, f := range s.Fields() {
			if !strings.HasPrefix(f.Name, "operand") {
				n++
			}
		}
		return n
	}
	for range named(plan.MaxNums, 0) {
		nums = append(nums, rand.Uint64N(70))
	}
	for i := range named(0, plan.MaxStrs) {
		strs = append(strs, []string{"/some/path", "key\x00value\x00", strings.Repeat("s", 16), "/bin:/usr/bin"}[i%4])
	}
	if k == plan.Exec {
		nums = []uint64{2, 2}
		strs[1], strs[2] = "a\x00b\x00", "A=1\x00B=2\x00"
	}
	if k == plan.ExecFD {
		nums = []uint64{2, 2, plan.SlotRequest}
		strs[0], strs[1] = "a\x00b\x00", "A=1\x00B=2\x00"
	}
	return nums, strs
}

// The init's own code reads and writes where it may, whatever a plan says: it
// runs under the sanitizers with system calls that do nothing.
func TestInitUnderSanitizers(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		spawntest.Lack(t, "a C compiler: %v", err)
	}
	harness := filepath.Join(spawntest.Dir(t), "harness")
	build := exec.Command(gcc, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-sign-compare", "-Wno-unused-function", "-Werror",
		"-fno-builtin", "-fsanitize=address,undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=all", "-o", harness, "init/parse_fuzz.c")
	if out, err := build.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "cannot find") {
			spawntest.Lack(t, "the address sanitizer: %s", out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	var corpus []byte
	for _, s := range sections(t) {
		b, err := plan.Append(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		corpus = append(binary.LittleEndian.AppendUint32(corpus, uint32(len(b))), b...)
	}
	seed := rand.Int64()
	cmd := exec.Command(harness, fmt.Sprint(seed), fmt.Sprint(spawntest.Rounds(3000, 1000000)))
	cmd.Stdin = bytes.NewReader(corpus)
	cmd.Env = []string{"ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0"}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "rounds") {
		t.Fatalf("seed %d: %v\n%s", seed, err, out)
	}
	t.Logf("seed %d: %s", seed, bytes.TrimSpace(out))
}
