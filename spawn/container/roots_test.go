package container_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/spawntest"
)

// busybox is a root's only program.
func busybox(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		hosttest.Lack(t, "/bin/busybox (Debian package busybox-static)")
	}
	return b
}

// piped is a request for argv, and what it has written when it has ended.
func piped(t *testing.T, argv ...string) (*spawn.Request, func() string) {
	r := with(t, argv...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(); in.Close() })
	r.Stdio[1] = in
	return r, func() string {
		in.Close()
		b, err := io.ReadAll(out)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

// Every source of a root gives the program its files as its own, read-only or
// with a layer that goes with it; so does a directory that is let in.
func TestRoots(t *testing.T) {
	spawntest.Root(t)
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	program := busybox(t)
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
			r, out := piped(t, "/bin/sh", "-c", "stat -c %u:%g /bin/sh /in; echo x 2>/dev/null >/bin/x && echo written; echo x >/in/f; echo x >/tmp/f; ls /proc/1 >/dev/null && echo ended")
			r.Root = kind
			r.Root.Writable = writable
			r.Mounts = []rootfs.Mount{{Source: in, Target: "/in", Writable: true}}
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
	if err := unix.Stat(in+"/f", &st); err != nil || st.Uid != 0 {
		t.Errorf("what it wrote is uid %d's, %v", st.Uid, err)
	}
	if list, err := os.ReadDir(dir + "/bin"); err != nil || len(list) != 1 {
		t.Errorf("its root changed: %v, %v", list, err)
	}
}

// A root that has links or files where the sandbox makes its own is refused, or
// they are left aside: nothing is made where they lead to.
func TestHostileRoots(t *testing.T) {
	spawntest.Root(t)
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	program := busybox(t)
	for name, c := range map[string]struct {
		path, text string // a link, or with "" a file
		want       error
	}{
		"sockets":           {"run/sandboxd/s", "HOST", nil},
		"sockets, to it":    {"run/sandboxd/s", "/in", nil},
		"empty":             {"run/sandboxd/empty", "HOST", nil},
		"peer":              {"run/sandboxd/peer.sock", "HOST/victim", nil},
		"ours, to nowhere":  {"run/sandboxd", "HOST", unix.ENOENT},
		"ours, to it":       {"run/sandboxd", "/in", unix.ELOOP},
		"run, to it":        {"run", "in", unix.ELOOP},
		"run, to nowhere":   {"run", "HOST", unix.ENOENT},
		"dev":               {"dev", "/in", unix.ELOOP},
		"proc":              {"proc", "in", unix.ELOOP},
		"tmp":               {"tmp", "/in", unix.ELOOP},
		"dev is a file":     {"dev", "", unix.ENOTDIR},
		"sockets in a file": {"run", "", unix.ENOTDIR},
	} {
		host, dir, in := spawntest.Dir(t), spawntest.Dir(t), spawntest.Dir(t)
		victim := filepath.Join(host, "victim")
		at := filepath.Join(dir, c.path)
		err := errors.Join(os.WriteFile(victim, nil, 0o666), os.Mkdir(dir+"/bin", 0o755), os.Mkdir(dir+"/in", 0o755), os.WriteFile(dir+"/bin/sh", program, 0o755), os.MkdirAll(filepath.Dir(at), 0o755))
		if c.text == "" {
			err = errors.Join(err, os.WriteFile(at, nil, 0o644))
		} else {
			err = errors.Join(err, os.Symlink(strings.Replace(c.text, "HOST", host, 1), at))
		}
		if err != nil {
			t.Fatal(err)
		}
		r, out := piped(t, "/bin/sh", "-c", "ls -A /in; echo x 2>/dev/null >/run/sandboxd/x || echo x 2>/dev/null >/dev/x || echo ended")
		r.Root = rootfs.Source{Kind: rootfs.Dir, Path: dir}
		r.Mounts = []rootfs.Mount{{Source: in, Target: "/in", Writable: true}}
		p, err := b.Start(bounded(t), r)
		if !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil {
			if _, err := p.Wait(bounded(t)); err != nil {
				t.Error(err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if text := out(); text != "ended\n" {
				t.Errorf("%s: %q", name, text)
			}
		}
		for d, want := range map[string]int{host: 1, in: 0} {
			if list, err := os.ReadDir(d); err != nil || len(list) != want {
				t.Errorf("%s: made on the host: %v, %v", name, list, err)
			}
		}
	}
}
