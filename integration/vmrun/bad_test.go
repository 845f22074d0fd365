package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/vm/debian"
)

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

// TestDynamicRunner: what plain go build makes where there is a C compiler.
func TestDynamicRunner(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		hosttest.Lack(t, "gcc (Debian package gcc)")
	}
	dynamic := filepath.Join(t.TempDir(), "vmrun")
	build := exec.Command("go", "build", "-ldflags", "-linkmode=external", "-o", dynamic, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := finish(t, exec.Command(dynamic, "--", guest, "talk"))
	if r.code != 125 || r.err != "vm: this program, which is also the guest's first process, is linked dynamically: build it again with CGO_ENABLED=0\n" {
		t.Errorf("code %d: %q", r.code, r.err)
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
