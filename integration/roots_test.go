package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"sandboxd/sandbox"
)

const busybox = "/bin/busybox"

// makeRoot writes a small system: busybox and its names, a marker, a set-id program.
func makeRoot(t *testing.T, c *caller, dir string) {
	t.Helper()
	program(t, busybox, "busybox-static")
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "etc", "data", "tmp"} {
		must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755))
	for _, name := range []string{"sh", "ls", "cat", "id", "touch", "echo", "mkdir", "rm", "env"} {
		must(os.Symlink("busybox", filepath.Join(dir, "bin", name)))
	}
	must(os.Link(filepath.Join(dir, "bin/busybox"), filepath.Join(dir, "bin/busybox-hard")))
	must(os.WriteFile(filepath.Join(dir, "data/marker"), []byte("of the root\n"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "data/ünï \n name"), []byte("x"), 0o644))
	must(os.Symlink("/etc/shadow", filepath.Join(dir, "data/escape")))
	must(os.Symlink("../../../../../../etc/shadow", filepath.Join(dir, "data/escape2")))
	must(filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, c.uid, c.uid))
	}))
	must(os.WriteFile(filepath.Join(dir, "bin/busybox-setid"), b, 0o755))
	must(os.Chmod(filepath.Join(dir, "bin/busybox-setid"), 0o755|os.ModeSetuid))
}

// pack makes an archive of dir, through wrap.
func pack(t *testing.T, dir, file string, wrap func(io.Writer) io.WriteCloser) {
	t.Helper()
	var buf bytes.Buffer
	z := wrap(&buf)
	w := tar.NewWriter(z)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), z.Close(), os.WriteFile(file, buf.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestRoots(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		root := filepath.Join(d, "root")
		if err := errors.Join(os.Mkdir(root, 0o755), os.Chown(root, c.uid, c.uid)); err != nil {
			t.Fatal(err)
		}
		makeRoot(t, c, root)
		pack(t, root, d+"/root.tar", func(w io.Writer) io.WriteCloser { return nopCloser{w} })
		pack(t, root, d+"/root.tar.gz", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
		pack(t, root, d+"/root.tar.zst", func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		})
		for _, from := range []string{root, d + "/root.tar", d + "/root.tar.gz", d + "/root.tar.zst"} {
			t.Run(filepath.Base(from), func(t *testing.T) {
				before := tree(t, root)
				flags := "--root " + from
				res := c.run(t, flags, "/bin/sh", "-c", "cat /data/marker; /bin/busybox-hard echo hard; id -u; pwd; ls -d /usr")
				if !strings.HasPrefix(res.stdout, "of the root\nhard\n1000\n/\n") || res.code == 0 {
					t.Errorf("exit %d%s", res.code, res.tail())
				}
				c.run(t, flags, "/bin/busybox", "sh", "-c", "cat /data/escape || cat /data/escape2").want(t, 1, sandbox.Exited)
				for _, p := range []string{"/new", "/data/new", "/bin/new", "/data/marker", "/etc/new"} {
					if res := c.run(t, flags, "/bin/sh", "-c", "echo x > "+p); res.code == 0 {
						t.Errorf("%s can be written in a read-only root", p)
					}
				}
				c.run(t, flags, "/bin/sh", "-c", "echo x > /tmp/x && cat /tmp/x && ls /dev/null /proc/self/status").want(t, 0, sandbox.Exited)
				// Set-id means nothing inside.
				if res := c.run(t, flags, "/bin/busybox-setid", "id", "-u"); res.stdout != "1000\n" {
					t.Errorf("a set-id program runs as %q", res.stdout)
				}
				// Writable: a layer on top, counted and gone afterwards.
				res = c.run(t, flags+" --writable --disk 16m", "/bin/sh", "-c", "echo changed > /data/marker && touch /data/new && rm /data/escape && mkdir /data/d && cat /data/marker")
				if res.want(t, 0, sandbox.Exited); res.stdout != "changed\n" {
					t.Errorf("writable root: %q", res.stdout)
				}
				res = c.run(t, flags+" --writable --disk 16m", "/bin/sh", "-c", "busybox dd if=/dev/zero of=/data/big bs=1M count=64 && exit 0; exit 1")
				res.want(t, 1, sandbox.Disk)
				if res := c.run(t, flags, "/bin/cat", "/data/marker"); res.stdout != "of the root\n" {
					t.Errorf("after a writable run the root says %q", res.stdout)
				}
				if after := tree(t, root); after != before {
					t.Errorf("the root changed on the host:\n%s\n%s", before, after)
				}
			})
		}
	})
}

// tree is a listing with modes, sizes, owners and change times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var s strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			st := info.Sys().(*syscall.Stat_t)
			fmt.Fprintln(&s, p, info.Mode(), info.Size(), st.Uid, st.Gid, st.Mtim, st.Ctim)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.String()
}

// Nothing but one static program.
func TestScratch(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.attack(t, "--root scratch", "identity")
		if res.want(t, 0, sandbox.Exited); !strings.Contains(res.stdout, "fds: 0 1 2\n") {
			t.Errorf("stdout: %q", res.stdout)
		}
		c.run(t, "--root scratch", "/bin/sh").want(t, 127, sandbox.SpawnFailed)
		res = c.attack(t, "--root scratch", "probe_open", "l:/usr", "l:/bin", "l:/lib", "l:/etc/ssl", "c:/owned", "c:/tmp/mine", "r:/proc/self/status")
		compare(t, res.stdout, `
			l:/usr: ENOENT|EACCES
			l:/bin: ENOENT|EACCES
			l:/lib: ENOENT|EACCES
			l:/etc/ssl: ENOENT|EACCES
			c:/owned: EROFS|EACCES
			c:/tmp/mine: OK
			r:/proc/self/status: OK
		`)
	})
}

func TestHostRootIsNeverWritable(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		c.run(t, "--writable", "/bin/sh", "-c", "echo x > /usr/owned; echo x > /etc/owned; echo x > /owned; true").refused(t, "read-only")
		for _, p := range []string{"/usr/owned", "/etc/owned", "/owned"} {
			if _, err := os.Lstat(p); err == nil {
				os.Remove(p)
				t.Fatalf("%s was made on the host", p)
			}
		}
	})
}

// Hostile archives are refused or harmless; the host keeps its files.
func TestHostileArchives(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		program(t, busybox, "busybox-static")
		bin, err := os.ReadFile(busybox)
		if err != nil {
			t.Fatal(err)
		}
		d := c.dir(t)
		victim := filepath.Join(d, "victim")
		if err := os.WriteFile(victim, []byte("whole"), 0o666); err != nil {
			t.Fatal(err)
		}
		up := strings.Repeat("../", 20)
		// Where a wall falls, what they do must stay in d.
		for name, entries := range map[string][]tar.Header{
			"dotdot":   {{Name: up + victim, Size: 1}},
			"absolute": {{Name: victim, Size: 1}},
			"symlink":  {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: d}, {Name: "out/victim", Size: 1}},
			"hardlink": {{Name: "out", Typeflag: tar.TypeLink, Linkname: victim}, {Name: "out", Size: 1}},
			"device":   {{Name: "dev/disk", Typeflag: tar.TypeBlock, Devmajor: 254}},
			"proc":     {{Name: "proc", Typeflag: tar.TypeSymlink, Linkname: d}, {Name: "dev", Typeflag: tar.TypeSymlink, Linkname: d}},
			"home":     {{Name: "home", Typeflag: tar.TypeSymlink, Linkname: d}, {Name: "tmp", Typeflag: tar.TypeSymlink, Linkname: d}},
			"run":      {{Name: "run", Typeflag: tar.TypeSymlink, Linkname: d}, {Name: "etc", Typeflag: tar.TypeSymlink, Linkname: d}},
		} {
			var buf bytes.Buffer
			w := tar.NewWriter(&buf)
			for _, h := range append(entries, tar.Header{Name: "sh", Size: int64(len(bin))}) {
				h.Mode = 0o755
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					if _, err := w.Write(bin[:h.Size]); err != nil {
						t.Fatal(err)
					}
				}
			}
			file := filepath.Join(d, name+".tar")
			if err := errors.Join(w.Close(), os.WriteFile(file, buf.Bytes(), 0o644)); err != nil {
				t.Fatal(err)
			}
			res := c.run(t, "--writable --root "+file, "/sh", "-c", "echo x > /dev/null; echo x > /tmp/x; echo x > /home/sandbox/x; echo x > /etc/x; exit 0")
			if res.code != 0 && res.code != 125 || res.code == 125 && res.stderr == "" {
				t.Errorf("%s: exit %d%s", name, res.code, res.tail())
			}
		}
		if b, err := os.ReadFile(victim); err != nil || string(b) != "whole" {
			t.Errorf("the victim on the host: %q, %v", b, err)
		}
		for _, p := range []string{filepath.Join(d, "x"), filepath.Join(d, "sandbox"), filepath.Join(d, "sandboxd"), filepath.Join(d, "null"), filepath.Join(d, "pts")} {
			if _, err := os.Lstat(p); err == nil {
				t.Errorf("%s was made on the host", p)
			}
		}
	})
}

func TestMounts(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		file := filepath.Join(d, "file")
		if err := errors.Join(os.WriteFile(file, []byte("text\n"), 0o644), os.Chown(file, c.uid, c.uid)); err != nil {
			t.Fatal(err)
		}
		res := c.run(t, "--mount "+d+":/data --mount "+file+":/one/deep/file:ro", "/bin/sh", "-c", "cat /data/file /one/deep/file; echo x >> /data/file; echo x >> /one/deep/file; echo x > /data/new; exit 0")
		if res.want(t, 0, sandbox.Exited); res.stdout != "text\ntext\n" {
			t.Errorf("stdout: %q", res.stdout)
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != "text\n" {
			t.Errorf("a read-only mount was written: %q, %v", after, err)
		}
		res = c.run(t, "--mount "+d+":/data:rw --workdir /data", "/bin/sh", "-c", "pwd; echo more >> file; echo x > new; mkdir -p a/b && mv new a/b/ && ln a/b/new hard && ln -s / sym && rm hard")
		if res.want(t, 0, sandbox.Exited); res.stdout != "/data\n" {
			t.Errorf("stdout: %q", res.stdout)
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != "text\nmore\n" {
			t.Errorf("a writable mount was not written: %q, %v", after, err)
		}
		// A mount that is a symlink names what it points to at the start. Below a read-only mount there is no place for another.
		link := filepath.Join(d, "link")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		res = c.run(t, "--mount "+link+":/data/f --mount /usr/bin:/tools", "/tools/cat", "/data/f")
		if res.want(t, 0, sandbox.Exited); res.stdout != "text\nmore\n" {
			t.Errorf("a mounted symlink: %q", res.stdout)
		}
		c.run(t, "--mount "+d+":/data --mount "+link+":/data/new/f", "/bin/cat", "/data/new/f").refused(t, "read-only")
	})
}

// Who, where and called what.
func TestIdentityFlags(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		const script = "id -u; id -g; hostname; pwd; echo $HOME; echo $K; echo $PATH; id -un"
		for flags, want := range map[string]string{
			"": "1000\n1000\nsandbox\n/home/sandbox\n/home/sandbox\n\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nsandbox\n",
			"--user 0 --hostname box --workdir /tmp --env K=a=b --env HOME=/tmp": "0\n0\nbox\n/tmp\n/tmp\na=b\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nroot\n",
			"--user 65534:33": "65534\n33\nsandbox\n/home/sandbox\n/home/sandbox\n\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nnobody\n",
		} {
			if res := c.run(t, flags, "/bin/sh", "-c", script); res.stdout != want {
				t.Errorf("run %s: %q, want %q%s", flags, res.stdout, want, res.tail())
			}
		}
		// Root inside is nobody outside.
		res := c.attack(t, "--user 0", "probe_open", "c:/usr/owned", "w:/etc/passwd", "r:/etc/shadow", "c:/tmp/mine", "w:/proc/sys/kernel/core_pattern", "w:/proc/sysrq-trigger")
		compare(t, res.stdout, `
			c:/usr/owned: EROFS|EACCES
			w:/etc/passwd: EROFS|EACCES
			r:/etc/shadow: ENOENT|EACCES
			c:/tmp/mine: OK
			w:/proc/sys/kernel/core_pattern: EACCES|EPERM|EROFS|ENOENT
			w:/proc/sysrq-trigger: EACCES|EPERM|EROFS|ENOENT
		`)
	})
}
