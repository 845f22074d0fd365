package vm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestArgs: every descriptor that Start passes is named once, in its order.
func TestArgs(t *testing.T) {
	c := Config{Kernel: "/k", Disks: []*os.File{nil, nil}, Ports: []string{"a", "b"}, Memory: 1 << 30, CPUs: 2, Network: true, Append: []string{"x=1", "--", "go"}}
	args := c.args()
	all := strings.Join(args, " ")
	at := 0
	for _, want := range []string{
		"-smp 2", "-m 1048576k", "-initrd /proc/self/fd/3", "oops=panic reboot=t mitigations=off x=1 -- go",
		"id=disk0,file=/proc/self/fd/4", "id=disk1,file=/proc/self/fd/5", "id=console,fd=6",
		"id=port0,fd=7", "name=a", "id=port1,fd=8", "name=b", "virtio-net-pci",
	} {
		i := strings.Index(all[at:], want)
		if i < 0 {
			t.Fatalf("%q does not come, or not in its place, in\n%s", want, all)
		}
		at += i
	}
	if i := slices.Index(args, "-accel"); args[i+1] != "tcg" {
		t.Errorf("without KVM the accelerator is %s", args[i+1])
	}
	c.KVM = true
	if args = c.args(); args[slices.Index(args, "-accel")+1] != "kvm" || args[slices.Index(args, "-cpu")+1] != "host" {
		t.Errorf("with KVM: %q", args)
	}
	c.Device = os.Stdin
	if all = strings.Join(c.args(), " "); !strings.Contains(all, "kvm,device=/dev/fdset/1") || !strings.HasSuffix(all, "-add-fd set=1,fd=9") {
		t.Errorf("with KVM by descriptor: %s", all)
	}
}

func TestStartRefuses(t *testing.T) {
	initrd, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	for want, c := range map[string]Config{
		"needs QEMU":          {},
		"no such file":        {QEMU: []string{"/bin/true"}, Kernel: "/no/kernel", Initrd: initrd},
		"no x86 kernel image": {QEMU: []string{"/bin/true"}, Kernel: "args_test.go", Initrd: initrd},
	} {
		if m, err := Start(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v: want %q", m, err, want)
		}
	}
}

// The header says the release, as uname has it.
func TestRelease(t *testing.T) {
	image := make([]byte, 0x1000)
	copy(image[0x202:], "HdrS")
	image[0x20e], image[0x20f] = 0x80, 0x05
	for text, want := range map[string]string{
		"6.1.0-50-amd64 (builder@host) #1 SMP\x00rest": "6.1.0-50-amd64",
		"7.3\x00":       "7.3",
		"\x00":          "",
		"../../etc (x)": "",
	} {
		clear(image[0x780:])
		copy(image[0x780:], text)
		name := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(name, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Release(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
