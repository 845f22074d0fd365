package initramfs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// TestArchive has another implementation read what we write.
func TestArchive(t *testing.T) {
	if _, err := exec.LookPath("busybox"); err != nil {
		hosttest.Lack(t, "busybox (Debian package busybox-static)")
	}
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, bytes.Repeat([]byte("x"), 100_001), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	w.Add(File{Path: "a/b/c", Mode: 0o755, Data: []byte("content")})
	w.Add(File{Path: "/a/big", Mode: 0o640, Source: src})
	w.Add(File{Path: "link", Mode: unix.S_IFLNK | 0o777, Data: []byte("a/b/c")})
	w.Add(File{Path: "a/b/c", Data: []byte("came too late")})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("busybox", "cpio", "-i", "-d")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(dir + "/link"); string(got) != "content" {
		t.Errorf("through the link: %q, %v", got, err)
	}
	if st, err := os.Stat(dir + "/a/big"); err != nil || st.Size() != 100_001 || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestArchiveRefuses(t *testing.T) {
	for want, f := range map[string]File{
		"no path below the root": {Path: "../up"},
		"no such file":           {Path: "x", Source: "/no/such"},
		"no regular file":        {Path: "x", Source: "/dev/zero"},
	} {
		w := NewWriter(&bytes.Buffer{})
		w.Add(f)
		w.Add(File{Path: "good"})
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	w := NewWriter(full{})
	w.Add(File{Path: "x", Data: []byte("y")})
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("a full disk: %v", err)
	}
}

func TestModulesRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Modules(dir, "x"); err == nil {
		t.Error("a directory without modules was taken")
	}
	if err := os.MkdirAll(dir+"/kernel", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"text.ko": "bad magic", "cut.ko.xz": "exit status", "odd.ko.lz9": "unknown"} {
		if err := os.WriteFile(filepath.Join(dir, "kernel", name), []byte("no module at all"), 0o644); err != nil {
			t.Fatal(err)
		}
		short, _, _ := strings.Cut(name, ".")
		if _, err := Modules(dir, short); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if found, err := Modules(dir, "built_in"); err != nil || len(found) != 0 {
		t.Errorf("a module that there is not: %v, %v", found, err)
	}
}
