package native_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/rootfs/unpack"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/spawn/spawntest"
)

// archive is a root in a file.
func archive(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(spawntest.Busybox(t))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "bin/", Mode: 0o755, Typeflag: tar.TypeDir},
		{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))},
		{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"},
		{Name: "file", Mode: 0o644, Size: 5},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		content := program
		if h.Size == 5 {
			content = []byte("old\n\n")
		}
		if h.Size > 0 {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(spawntest.Dir(t), "root.tar")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRoots(t *testing.T) {
	b := watched(t)
	tarball := archive(t)
	dir := spawntest.Dir(t)
	if out, err := exec.Command("tar", "-xf", tarball, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const script = "cat /file; echo new >/file && cat /file; echo made >/made && cat /made; /bin/busybox ls -d /proc/1 /dev/null; /bin/busybox stat -c %u:%g /file"
	for _, root := range []rootfs.Source{
		{Kind: rootfs.Dir, Path: dir},
		{Kind: rootfs.Dir, Path: dir, Writable: true},
		{Kind: rootfs.Tar, Path: tarball},
		{Kind: rootfs.Tar, Path: tarball, Writable: true},
	} {
		r := request(t)
		r.Root, r.Scratch = root, spawn.Scratch{Bytes: 16 << 20, Inodes: 512}
		out := spawntest.Piped(t, r, "/bin/sh", "-c", strings.ReplaceAll(script, "cat", "/bin/busybox cat"))
		p, err := b.Start(bounded(t), r)
		if err != nil {
			t.Errorf("%+v: %v", root, err)
			continue
		}
		exit, err := p.Wait(bounded(t))
		if err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		text := out()
		changed := strings.Contains(text, "old\n\nnew\nmade\n")
		if !strings.HasPrefix(text, "old\n") || changed != root.Writable || !strings.HasSuffix(text, "/dev/null\n/proc/1\n1000:1000\n") || exit.Status != 0 {
			t.Errorf("%+v: %+v, %q", root, exit, text)
		}
	}
	if b, err := os.ReadFile(dir + "/file"); err != nil || string(b) != "old\n\n" {
		t.Errorf("the root's own file is %q, %v", b, err)
	}
	if _, err := os.Stat(dir + "/made"); err == nil {
		t.Error("the program made a file in the user's directory")
	}
}

// An ordinary user's bind would take along what is mounted below, root's does not.
func TestMountsBelow(t *testing.T) {
	b := watched(t)
	for name, change := range map[string]func(*spawn.Request){
		"mount":         func(r *spawn.Request) { r.Mounts = []rootfs.Mount{{Source: "/", Target: "/d"}} },
		"mount, behind": func(r *spawn.Request) { r.Mounts = []rootfs.Mount{{Source: "/proc/self/root", Target: "/d"}} },
		"root":          func(r *spawn.Request) { r.Root = rootfs.Source{Kind: rootfs.Dir, Path: "/"} },
	} {
		r := request(t)
		change(r)
		out := spawntest.Piped(t, r, "/bin/sh", "-c", "ls -A /d/proc 2>/dev/null; test -d /proc/1")
		p, err := b.Start(bounded(t), r)
		if os.Geteuid() != 0 {
			if p != nil || err == nil || !strings.Contains(err.Error(), " is mounted below it") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		exit, err := p.Wait(bounded(t))
		if err := errors.Join(err, p.Close()); err != nil || exit.Status != 0 {
			t.Errorf("%s: %+v, %v", name, exit, err)
		}
		if text := out(); text != "" {
			t.Errorf("%s: the host's /proc shows: %q", name, text)
		}
	}
}

// What an archive unpacks to is memory of the host's that no actor's limit counts.
func TestArchiveLimits(t *testing.T) {
	b := watched(t)
	t.Cleanup(native.SetArchiveBytes(1 << 20))
	for name, c := range map[string]struct {
		files, size int
		want        error
	}{
		"fits":           {200, 4096, unix.ENOENT}, // there is no program in it
		"bytes":          {1, 1<<20 + 1, unpack.ErrTooLarge},
		"bytes in pages": {200, 5000, unix.ENOSPC},
		"files":          {300, 0, unpack.ErrTooMany},
	} {
		file := filepath.Join(spawntest.Dir(t), "root.tar")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		w := tar.NewWriter(f)
		for i := range c.files {
			err = errors.Join(err, w.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Mode: 0o644, Size: int64(c.size)}))
			_, werr := w.Write(make([]byte, c.size))
			err = errors.Join(err, werr)
		}
		if err := errors.Join(err, w.Close(), f.Close()); err != nil {
			t.Fatal(err)
		}
		r := request(t)
		r.Root = rootfs.Source{Kind: rootfs.Tar, Path: file}
		spawntest.Piped(t, r, "/none")
		if p, err := b.Start(bounded(t), r); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: %v, %v, want %v", name, p, err, c.want)
		}
	}
}

func TestHostileRoots(t *testing.T) {
	b := watched(t)
	for _, alone := range []bool{false, true} {
		spawntest.HostileRoots(t, b, func(t testing.TB) *spawn.Request {
			r := request(t)
			r.Alone = alone
			return r
		})
	}
}
