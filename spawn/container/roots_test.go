package container_test

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn/spawntest"
)

// Every source of a root gives the program its files as its own, read-only or
// with a layer that goes with it; so does a directory that is let in.
func TestRoots(t *testing.T) {
	able(t)
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	program, err := os.ReadFile(spawntest.Busybox(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, in := spawntest.Dir(t), spawntest.Dir(t)
	archive := filepath.Join(spawntest.Dir(t), "root.tar")
	f, err := os.OpenFile(archive, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	err = errors.Join(os.Mkdir(dir+"/bin", 0o755), os.WriteFile(dir+"/bin/sh", program, 0o755), w.WriteHeader(&tar.Header{Name: "bin/sh", Mode: 0o755, Size: int64(len(program))}))
	_, werr := w.Write(program)
	if err := errors.Join(err, werr, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []rootfs.Source{{Kind: rootfs.Dir, Path: dir}, {Kind: rootfs.Tar, Path: archive}} {
		for _, writable := range []bool{false, true} {
			r := request(t)
			out := spawntest.Piped(t, r, "/bin/sh", "-c", "stat -c %u:%g /bin/sh /in; echo x 2>/dev/null >/bin/x && echo written; echo x >/in/f; echo x >/tmp/f; ls /proc/1 >/dev/null && echo ended")
			r.Root = kind
			r.Root.Writable = writable
			r.Mounts = []rootfs.Mount{{Source: in, Target: "/in", Writable: true}}
			if os.Geteuid() != 0 { // nothing is id-mapped: who is to write to it must be the caller
				r.Host.UID, r.Host.GID = 0, 0
			}
			p, err := b.Start(bounded(t), r)
			if err != nil {
				t.Errorf("%+v: %v", r.Root, err)
				continue
			}
			if _, err := p.Wait(bounded(t)); err != nil {
				t.Error(err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			want := "1000:1000\n1000:1000\n" + map[bool]string{true: "written\n"}[writable] + "ended\n"
			if text := out(); text != want {
				t.Errorf("%+v: %q, want %q", r.Root, text, want)
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(in+"/f", &st); err != nil || int(st.Uid) != os.Geteuid() {
		t.Errorf("what it wrote is uid %d's, %v", st.Uid, err)
	}
	if list, err := os.ReadDir(dir + "/bin"); err != nil || len(list) != 1 {
		t.Errorf("its root changed: %v, %v", list, err)
	}
}

func TestHostileRoots(t *testing.T) {
	able(t)
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	spawntest.HostileRoots(t, b, request)
}
