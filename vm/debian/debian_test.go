package debian

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sandboxd/internal/hosttest"
)

func TestMain(m *testing.M) {
	hosttest.Main(m, map[string]func() error{"supply": func() error {
		table = os.Args[3]
		_, _, err := Cache{Dir: os.Args[1], Mirror: os.Args[2]}.Kernel(context.Background(), "1.0", os.Stderr)
		return err
	}})
}

func TestFullDisk(t *testing.T) {
	mirror, sum := archive(t)
	pinned(t, sum)
	for _, pages := range []int{1, 8} { // full with the last small file, and with the kernel
		dir := t.TempDir()
		supply := hosttest.Command("supply", dir, mirror, table)
		cmd := exec.Command("unshare", append([]string{"-rm", "sh", "-c", `mount -t tmpfs -o "nr_blocks=$0" none "$2" && exec "$@"`, fmt.Sprint(pages)}, supply.Args...)...)
		cmd.Env = supply.Env
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "; free some space for "+dir+", or set") {
			t.Errorf("%d pages: %v: %s", pages, err, out)
		}
	}
}

func TestTable(t *testing.T) {
	pins, err := parse(table)
	if err != nil {
		t.Fatal(err)
	}
	if k := Kernels(); len(k) < 3 || k[0] != "6.1" {
		t.Errorf("kernels %q", k)
	}
	for _, p := range pins {
		if !strings.HasPrefix(p.path, "pool/") || p.size == 0 || !strings.HasSuffix(p.path, ".deb") {
			t.Errorf("%+v", p)
		}
	}
	for _, bad := range []string{"one\ttwo", "s\tp\tv\tmany\t" + strings.Repeat("0", 64) + "\tp", "s\tp\tv\t1\tshort\tp"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// archive makes a Debian archive of one package, that holds a kernel, and pins it.
func archive(t *testing.T) (mirror string, sum string) {
	t.Helper()
	for _, tool := range []string{"dpkg-deb", helper} {
		if _, err := exec.LookPath(tool); err != nil {
			hosttest.Lack(t, "Debian's %s", tool)
		}
	}
	mirror = t.TempDir()
	noise := make([]byte, 100_000) // that does not compress
	_, _ = rand.Read(noise)
	tree := filepath.Join(mirror, "tree")
	for path, content := range map[string]string{
		"DEBIAN/control":           "Package: kern\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n",
		"boot/vmlinuz-1":           "the kernel" + string(noise),
		"lib/modules/1/kernel/x.y": "",
	} {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(mirror, "pool/kern.deb")
	if err := os.Mkdir(filepath.Dir(deb), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sum, err := digest(deb)
	if err != nil {
		t.Fatal(err)
	}
	return "file://" + mirror, sum
}

func pinned(t *testing.T, sum string) {
	old := table
	t.Cleanup(func() { table = old })
	table = fmt.Sprintf("1.0\tkern\t1\t100\t%s\tpool/kern.deb\n", sum)
}

func TestSupply(t *testing.T) {
	mirror, sum := archive(t)
	pinned(t, sum)
	c := Cache{Dir: filepath.Join(t.TempDir(), "new"), Mirror: mirror}
	var said [3]bytes.Buffer
	var group sync.WaitGroup
	for i := range said { // at once: one of them makes it
		group.Go(func() {
			image, modules, err := c.Kernel(t.Context(), "1.0", &said[i])
			if err != nil || filepath.Base(image) != "vmlinuz-1" || filepath.Base(modules) != "1" {
				t.Errorf("%q, %q, %v", image, modules, err)
			}
		})
	}
	group.Wait()
	if all := said[0].String() + said[1].String() + said[2].String(); strings.Count(all, "fetching") != 1 {
		t.Errorf("it was fetched more than once: %q", all)
	}
	// A warm cache needs no archive.
	c.Mirror = "file:///nowhere"
	image, _, err := c.Kernel(t.Context(), "1.0", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(image, []byte("the kernex"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err == nil || !strings.Contains(err.Error(), "vmlinuz-1: its content has changed; remove that directory") {
		t.Errorf("a damaged kernel: %v", err)
	}
	if err := os.Remove(image); err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a kernel removed: %v", err)
	}
	if _, _, err := c.Kernel(t.Context(), "1.0", os.Stderr); err == nil || !strings.Contains(err.Error(), "remove that directory") {
		t.Errorf("a kernel removed: %v", err)
	}
}

func TestSupplyRefuses(t *testing.T) {
	mirror, sum := archive(t)
	c := Cache{Dir: t.TempDir(), Mirror: mirror}
	try := func(what, sum, want string, c Cache) {
		t.Helper()
		pinned(t, sum)
		if _, _, err := c.Kernel(t.Context(), "1.0", os.Stderr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		left, _ := filepath.Glob(filepath.Join(c.Dir, "*"))
		for _, l := range left {
			if filepath.Base(l) != "lock" {
				t.Errorf("%s leaves %s", what, l)
			}
		}
	}
	try("a package that is not the pinned one", strings.Repeat("0", 64), "Hash Sum mismatch", c)
	try("an archive without it", sum, "vm-pins.sh", Cache{Dir: c.Dir, Mirror: "file:///nowhere"})
	try("a cache that cannot be written", sum, "SANDBOXD_VM_CACHE", Cache{Dir: "/proc/no"})
	// What a process that was killed left behind goes with the next.
	if err := os.MkdirAll(filepath.Join(c.Dir, partial+"dead", "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	try("a package that is not the pinned one", strings.Repeat("0", 64), "Hash Sum mismatch", c)
	if _, _, err := c.Kernel(t.Context(), "9", os.Stderr); err == nil || !strings.Contains(err.Error(), "there are 1.0") {
		t.Errorf("a kernel that there is not: %v", err)
	}
}

func TestDefaultCache(t *testing.T) {
	t.Setenv("SANDBOXD_VM_CACHE", "relative")
	if _, err := DefaultCache(); err == nil {
		t.Error("a relative path was taken")
	}
	t.Setenv("SANDBOXD_VM_CACHE", "/some/where")
	if c, err := DefaultCache(); err != nil || c.Dir != "/some/where" {
		t.Errorf("%+v, %v", c, err)
	}
}
