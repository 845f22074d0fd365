package abuse

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

// trap is a case in which the supervisor is given something planted: lay makes
// it, below a root and beside a directory of the host that must stay as it is.
func trap(id, says, ref string, lay func(root, host string, s *sandbox.Spec) error) Case {
	return Case{ID: id, Says: says, Ref: ref, Want: "refused", Run: func(s *stage) (string, error) {
		root, host := filepath.Join(s.dir, "root"), filepath.Join(s.dir, "host")
		err := errors.Join(os.Mkdir(root, 0o755), os.Mkdir(host, 0o755), os.WriteFile(filepath.Join(host, "file"), []byte("host"), 0o644))
		for _, d := range []string{"data", "etc", "tmp"} {
			err = errors.Join(err, os.Mkdir(filepath.Join(root, d), 0o755))
		}
		if err != nil {
			return "", err
		}
		spec := s.this("started")
		spec.Root = rootfs.Source{Kind: rootfs.Dir, Path: root}
		if err := lay(root, host, &spec); err != nil {
			return "", err
		}
		if s.control { // the same without the trap
			if err := os.RemoveAll(root); err != nil {
				return "", err
			}
			for _, d := range []string{"data", "etc", "tmp", "proc", "sys", "dev", "home"} {
				if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
					return "", err
				}
			}
			if spec.Root.Kind == rootfs.Tar {
				if err := writeTar(spec.Root.Path, &tar.Header{Name: "etc", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
					return "", err
				}
			}
			spec.User, spec.Hostname, spec.Env, spec.Dir = nil, "", nil, ""
			for i := range spec.Mounts {
				spec.Mounts[i].Source, spec.Mounts[i].Target = host, "/data"
			}
		}
		before, err := listing(host)
		if err != nil {
			return "", err
		}
		out, err := s.start(spec)
		if after, lerr := listing(host); lerr != nil || after != before {
			return "the host's directory has changed", lerr
		}
		return out, err
	}}
}

// start runs a Spec to its end, "refused" if it does not start.
func (s *stage) start(spec sandbox.Spec) (string, error) {
	p, err := s.suite.host.Start(s.ctx, spec)
	if err != nil {
		s.suite.note(err)
		return "refused", nil
	}
	r, err := p.Wait(s.ctx)
	if err != nil {
		return "", err
	}
	if r.Exit.Reason == sandbox.Exited {
		return Through, nil
	}
	return string(r.Exit.Reason), nil
}

// listing is a directory with what a wrong mount or write would change.
func listing(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, p, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	return b.String(), err
}

func writeTar(file string, headers ...*tar.Header) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	for _, h := range headers {
		if err == nil {
			err = w.WriteHeader(h)
		}
		if h.Size > 0 && err == nil {
			_, err = io.CopyN(w, zeros{}, h.Size)
		}
	}
	return errors.Join(err, w.Close(), f.Close())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func setupCases() []Case {
	link := func(name string) func(string, string, *sandbox.Spec) error {
		return func(root, host string, _ *sandbox.Spec) error { return os.Symlink(host, filepath.Join(root, name)) }
	}
	archive := func(headers ...*tar.Header) func(string, string, *sandbox.Spec) error {
		return func(root, _ string, s *sandbox.Spec) error {
			s.Root = rootfs.Source{Kind: rootfs.Tar, Path: root + ".tar"}
			return writeTar(s.Root.Path, headers...)
		}
	}
	spec := func(change func(*sandbox.Spec)) func(string, string, *sandbox.Spec) error {
		return func(_, _ string, s *sandbox.Spec) error {
			s.Root = rootfs.Source{}
			change(s)
			return nil
		}
	}
	return []Case{
		trap("setup/proc-symlink", "a root whose /proc is a link to the host", "CVE-2019-19921, CVE-2023-27561", link("proc")),
		trap("setup/dev-symlink", "a root whose /dev is a link to the host", "CVE-2026-41579, CVE-2026-47766", link("dev")),
		trap("setup/tmp-symlink", "a root whose /tmp is a link to the host", "CVE-2026-87766", func(root, host string, _ *sandbox.Spec) error {
			return errors.Join(os.Remove(filepath.Join(root, "tmp")), os.Symlink(host, filepath.Join(root, "tmp")))
		}),
		trap("setup/mount-symlink", "a mount whose target's parent is a link to the host", "CVE-2024-45310", func(root, host string, s *sandbox.Spec) error {
			s.Mounts = []rootfs.Mount{{Source: root, Target: "/link/made"}}
			return os.Symlink(host, filepath.Join(root, "link"))
		}),
		trap("setup/dev-null", "a root with a /dev/null of its own, for masks", "CVE-2025-31133", func(root, host string, _ *sandbox.Spec) error {
			return errors.Join(os.Mkdir(filepath.Join(root, "dev"), 0o755), os.Symlink(filepath.Join(host, "file"), filepath.Join(root, "dev", "null")),
				os.Symlink(host, filepath.Join(root, "proc")))
		}),
		trap("setup/mount-proc", "let the host's /proc in", "CVE-2025-52881", spec(func(s *sandbox.Spec) { s.Mounts = []rootfs.Mount{{Source: "/proc", Target: "/data"}} })),
		trap("setup/mount-sys", "let the host's /sys in", "CVE-2022-0492", spec(func(s *sandbox.Spec) { s.Mounts = []rootfs.Mount{{Source: "/sys", Target: "/data", Writable: true}} })),
		trap("setup/mount-dots", "a mount target that climbs out", "CVE-2021-30465", spec(func(s *sandbox.Spec) { s.Mounts = []rootfs.Mount{{Source: "/usr", Target: "/data/../../etc"}} })),
		{ID: "setup/directory", Says: "a working directory that leads to one that the init has open, by its name and by a link in the root", Ref: "CVE-2024-21626", Want: "refused", Run: directory},
		{
			ID: "setup/mount-race", Says: "swap a mount's target for a link to the host, again and again, while sandboxes start", Ref: "CVE-2021-30465", Want: "contained" + unmapped,
			NoControl: "what it looks for is a mount or a file outside, which a right sandbox never makes", Run: mountRace,
		},
		trap("setup/user", "a user id that is none", "CVE-2026-30892", spec(func(s *sandbox.Spec) { s.User = &sandbox.User{UID: -1, GID: 1 << 33} })),
		trap("setup/hostname", "a host name with a second line", "CVE-2022-0811", spec(func(s *sandbox.Spec) { s.Hostname = "a\nkernel.core_pattern=|/x" })),
		trap("setup/environment", "a variable without a name", "", spec(func(s *sandbox.Spec) { s.Env = []string{"=x"} })),
		trap("setup/tar-dotdot", "an archive with a file outside of it", "GHSA-qq3r-w4hj-gjp6", archive(&tar.Header{Name: "../host/owned", Mode: 0o644, Size: 1})),
		trap("setup/tar-symlink", "an archive that writes through its own link", "GHSA-qq3r-w4hj-gjp6", archive(
			&tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "../host", Mode: 0o777}, &tar.Header{Name: "out/owned", Mode: 0o644, Size: 1})),
		trap("setup/tar-hardlink", "an archive with a hard link to a file outside", "", archive(&tar.Header{Name: "file", Typeflag: tar.TypeLink, Linkname: "../host/file", Mode: 0o644})),
		trap("setup/tar-huge", "an archive that says it is an exabyte", "", func(root, _ string, s *sandbox.Spec) error {
			s.Root = rootfs.Source{Kind: rootfs.Tar, Path: root + ".tar"}
			f, err := os.OpenFile(s.Root.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if err != nil {
				return err
			}
			err = tar.NewWriter(f).WriteHeader(&tar.Header{Name: "big", Mode: 0o644, Size: 1 << 60, Format: tar.FormatGNU})
			return errors.Join(err, f.Close())
		}),
	}
}

// directory starts sandboxes in whatever directories their init may have open.
func directory(s *stage) (string, error) {
	root := filepath.Join(s.dir, "root")
	for _, d := range []string{"proc", "sys", "dev", "tmp", "home", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	for fd := 3; fd < 3+s.some(30); fd++ {
		spec := s.this("started")
		spec.Dir = fmt.Sprintf("/proc/self/fd/%d", fd)
		link := fmt.Sprintf("/link%d", fd)
		if err := os.Symlink(spec.Dir, filepath.Join(root, link)); err != nil {
			return "", err
		}
		linked := spec
		linked.Dir, linked.Root = link, rootfs.Source{Kind: rootfs.Dir, Path: root}
		for _, spec := range []sandbox.Spec{spec, linked} {
			if s.control {
				spec.Dir = "/tmp"
			}
			if got, err := s.start(spec); got != "refused" || err != nil {
				return got, err
			}
		}
	}
	return "refused", nil
}

// mountRace starts sandboxes with a mount below a directory in which the target
// is swapped all the time.
func mountRace(s *stage) (string, error) {
	data, other, host := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "other"), filepath.Join(s.dir, "host")
	sub, spare := filepath.Join(data, "sub"), filepath.Join(data, "spare")
	err := errors.Join(os.Mkdir(data, 0o777), os.Mkdir(other, 0o755), os.Mkdir(host, 0o777), os.Mkdir(sub, 0o755), os.Symlink(host, spare))
	if err != nil {
		return "", err
	}
	before, err := listing(host)
	if err != nil {
		return "", err
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		swaps := 0
		for {
			select {
			case <-stop:
				stopped <- swaps
				return
			default:
			}
			if unix.Renameat2(unix.AT_FDCWD, sub, unix.AT_FDCWD, spare, unix.RENAME_EXCHANGE) == nil {
				swaps++
			}
		}
	}()
	spec := s.this("started")
	spec.Mounts = []rootfs.Mount{{Source: data, Target: "/data", Writable: true}, {Source: other, Target: "/data/sub", Writable: true}}
	started, refused := 0, 0
	for range s.some(40) {
		got, serr := s.start(spec)
		switch err = errors.Join(err, serr); got {
		case Through:
			started++
		case "refused":
			refused++
		default:
			err = errors.Join(err, fmt.Errorf("a sandbox ended by %q", got))
		}
	}
	close(stop)
	swaps := <-stopped
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	after, err := listing(host)
	switch {
	case err != nil:
		return "", err
	case after != before || strings.Contains(string(mounts), s.dir):
		return Through, nil
	case swaps < 100:
		return "", fmt.Errorf("only %d swaps during %d starts", swaps, started+refused)
	case started == 0:
		return "refused", nil
	}
	return "contained", nil
}
