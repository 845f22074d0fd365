package microvm_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/spawntest"
)

// QEMU's own processor has svm, so a guest of it has a KVM: a machine in that
// runs by it, where this host may have none. Its kernel is given by path.
func TestKVM(t *testing.T) {
	dir := spawntest.Dir(t)
	program := copyParts(t, dir)
	kernels, _ := filepath.Glob(dir + "/6.1-generic-*/boot/vmlinuz-*")
	modules, _ := filepath.Glob(dir + "/6.1-generic-*/lib/modules/*")
	if len(kernels) != 1 || len(modules) != 1 {
		t.Fatalf("kernels %q, modules %q", kernels, modules)
	}
	image := filepath.Join(spawntest.Dir(t), "image")
	if out, err := exec.CommandContext(bounded(t), "mke2fs", "-q", "-t", "ext4", "-d", dir, image, "400m").CombinedOutput(); err != nil {
		hosttest.Lack(t, "mke2fs (Debian package e2fsprogs): %v\n%s", err, out)
	}
	cmd := exec.CommandContext(
		bounded(t), program, "vm", "run", "--kernel", "6.12", "--module", "kvm_amd", "--memory", "3g", "--smp", "2", "--disk", image+":"+dir,
		"--env", cacheEnv+"="+dir, "--", program, "run", "--backend", "microvm", "--vm-kernel", kernels[0], "--vm-modules", modules[0],
		"--json", "--mount", dir+":/data", "--", "/data/sandboxd", "version",
	)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var report struct{ Isolation struct{ Machine string } }
	for line := range strings.Lines(errs.String()) {
		_ = json.Unmarshal([]byte(line), &report) // others are the runner's words
	}
	if how := report.Isolation.Machine; err != nil || !strings.HasPrefix(out.String(), "sandboxd ") || !strings.Contains(how, ", KVM; Linux 6.1") {
		t.Errorf("%v, %q, %q\n%s", err, how, out.String(), errs.String())
	}
}
