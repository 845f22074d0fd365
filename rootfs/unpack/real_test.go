package unpack_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs/unpack"
)

// What tar(1) makes of real directories must come out equal.
func TestRealTrees(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		hosttest.Lack(t, "a tar program to compare with: %v", err)
	}
	var trees []string
	for _, d := range []string{"/usr/share/zoneinfo", "/usr/share/perl5", "/etc/alternatives", "/usr/include/linux"} {
		if _, err := os.Stat(d); err == nil {
			trees = append(trees, d)
		}
	}
	if len(trees) == 0 {
		hosttest.Lack(t, "any tree to compare with")
	}
	for i, top := range trees {
		for _, format := range []string{"gnu", "pax"} {
			t.Run(top+" "+format, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), "tar", "--format="+format, "-C", top, "-c", ".")
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				archive, err := cmd.Output()
				if err != nil {
					t.Fatalf("tar: %v %s", err, stderr.Bytes())
				}
				switch i % 3 {
				case 1:
					archive = gz(archive)
				case 2:
					archive = zst(archive, 8<<20)
				}
				a := newArena(t)
				stats, err := a.tar(archive, unpack.Options{})
				must(t, err)
				t.Logf("%d KiB: %+v", len(archive)>>10, stats)
				a.intact()
				want, got := snapshot(t, top, ""), snapshot(t, a.root(), "")
				if d := diff(normal(want, format), normal(got, format)); d != "" {
					t.Fatalf("differs:\n%.2000s", d)
				}
			})
		}
	}
}

// normal leaves out what is not in the archive (a link count that includes
// names outside of the tree, the nanoseconds of a GNU archive).
func normal(tree map[string]string, format string) map[string]string {
	out := map[string]string{}
	for name, s := range tree {
		kind, rest, _ := strings.Cut(s, " ")
		when, rest, _ := strings.Cut(rest, " ")
		if sec, _, ok := strings.Cut(when, "."); ok && format == "gnu" {
			when = sec
		}
		if after, ok := strings.CutPrefix(rest, "links "); ok {
			_, rest, _ = strings.Cut(after, " ")
		}
		out[name] = kind + " " + when + " " + rest
	}
	return out
}

// A static busybox with its applets as hard links and as symbolic links, some
// through a directory link, is a root file system one can enter.
func TestBusyboxRoot(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		hosttest.Lack(t, "a static busybox (Debian: busybox-static): %v", err)
	}
	exe, err := os.ReadFile(busybox)
	must(t, err)
	archive := end(
		dir("./"), dir("./usr/"), dir("./usr/bin/"), symlink("./bin", "usr/bin"), symlink("./lib", "/usr/lib"),
		member('0', "./usr/bin/busybox", "", 0o700, string(exe)),
		hardlink("./bin/sh", "./bin/busybox"),
		symlink("./bin/cat", "/bin/busybox"),
		file("./lib/greeting", "hello from inside\n"),
	)
	// lib leads to a directory that is not there yet.
	a := newArena(t)
	if _, err := a.tar(zst(archive, 8<<20), unpack.Options{}); err == nil {
		t.Fatal("a parent behind a dangling link is taken")
	}
	a = newArena(t)
	archive = join(dir("./usr/lib/"), archive)
	_, err = a.tar(zst(archive, 8<<20), unpack.Options{Readable: true})
	must(t, err)
	a.intact()
	hosttest.NeedRoot(t)
	must(t, os.Chmod(a.dir, 0o755))
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "cat /lib/greeting")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: a.root(), Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "hello from inside\n" {
		t.Fatalf("%q %v", out, err)
	}
}
