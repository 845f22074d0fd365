package spawntest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/spawn"
)

// Busybox is a program that is a whole root; the test does not apply without it.
func Busybox(t testing.TB) string {
	t.Helper()
	const name = "/bin/busybox"
	if _, err := os.Stat(name); err != nil {
		Lack(t, "%s (Debian package busybox-static)", name)
	}
	return name
}

// Piped makes r start argv. out is all that it has written, and is called when it has ended.
func Piped(t testing.TB, r *spawn.Request, argv ...string) (out func() string) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close(); outR.Close(); outW.Close() })
	r.Argv, r.Stdio = argv, [3]*os.File{null, outW, outW}
	return func() string {
		outW.Close()
		_ = outR.SetReadDeadline(time.Now().Add(deadline))
		b, err := io.ReadAll(outR)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
}

// HostileRoots starts a program in roots that have links or files where the
// sandbox makes its own: each is refused, or they are left aside, and nothing
// is made where they lead to.
func HostileRoots(t *testing.T, b spawn.Backend, request func(testing.TB) *spawn.Request) {
	program, err := os.ReadFile(Busybox(t))
	if err != nil {
		t.Fatal(err)
	}
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
		host, dir, in := Dir(t), Dir(t), Dir(t)
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
		r := request(t)
		r.Root = rootfs.Source{Kind: rootfs.Dir, Path: dir}
		r.Mounts = []rootfs.Mount{{Source: in, Target: "/in", Writable: true}}
		// A link to a directory that is let in is not followed by the sandbox's own either.
		out := Piped(t, r, "/bin/sh", "-c", "ls -A /in; echo x 2>/dev/null >/run/sandboxd/x || echo x 2>/dev/null >/dev/x || echo ended")
		ctx, stop := context.WithTimeout(t.Context(), deadline)
		p, err := b.Start(ctx, r)
		if !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil {
			_, err := p.Wait(ctx)
			if err := errors.Join(err, p.Close()); err != nil {
				t.Error(err)
			}
			if text := out(); text != "ended\n" {
				t.Errorf("%s: %q", name, text)
			}
		}
		stop()
		for d, want := range map[string]int{host: 1, in: 0} {
			if list, err := os.ReadDir(d); err != nil || len(list) != want {
				t.Errorf("%s: made on the host: %v, %v", name, list, err)
			}
		}
	}
}
