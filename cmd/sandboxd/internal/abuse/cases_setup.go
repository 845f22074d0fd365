package abuse

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/ipc/session"
	"sandboxd/rootfs"
	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
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
			ID: "setup/mount-race", Says: "swap a mount's target for a link to the host, again and again, while sandboxes start", Ref: "CVE-2021-30465", Want: "contained",
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
	for fd := 3; fd < 32; fd++ {
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
	for range 40 {
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

// shout is a program that says bytes instead of hello, and waits.
func shout(says []byte) func([]string) error {
	return func(args []string) error {
		if len(args) > 0 { // the control: what a program should do
			var mux peer.Mux
			return peer.Serve(context.Background(), &mux)
		}
		c, err := ipc.Dial(socket())
		if err != nil {
			return err
		}
		_, err = c.Write(says)
		time.Sleep(patience)
		return err
	}
}

func socket() string {
	if path := os.Getenv("SANDBOXD_PEER"); path != "" {
		return path
	}
	return peer.Socket
}

// mute is a case of a program that does not say hello as it should.
func mute(id, says string, payload []byte) Case {
	c := Case{ID: id, Says: says, Want: "refused", Attack: shout(payload)}
	c.Run = func(s *stage) (string, error) {
		spec := s.this(c.ID)
		if s.control {
			spec.Argv = append(spec.Argv, "properly")
		}
		spec.Peer, spec.BootTimeout = true, 300*time.Millisecond
		if s.control {
			spec.BootTimeout = patience
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := sandbox.Run(s.ctx, func(ctx context.Context, n *sandbox.Nursery) error {
			_, err := n.Start(ctx, spec)
			return err
		}, sandbox.On(s.suite.host))
		runtime.ReadMemStats(&after)
		switch grown := after.TotalAlloc - before.TotalAlloc; {
		case grown > 32<<20:
			return fmt.Sprintf("the supervisor took %d MiB", grown>>20), nil
		case err != nil:
			s.suite.note(err)
			return "refused", nil
		}
		return Through, nil
	}
	return c
}

func framed(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func handshakeCases() []Case {
	return []Case{
		mute("handshake/silence", "connect, and say nothing", nil),
		mute("handshake/half-frame", "say the first half of a frame", []byte{64, 0, 0, 0, 0x93}),
		mute("handshake/huge-frame", "announce a frame of 4 GiB", []byte{0xff, 0xff, 0xff, 0xff, 0x93}),
		mute("handshake/array-bomb", "an array of 2^32-1 elements in five bytes", framed("\xdd\xff\xff\xff\xff")).from("vmihailenco/msgpack#401"),
		mute("handshake/bytes-bomb", "a string of 2^32-1 bytes in five", framed("\xc6\xff\xff\xff\xff")).from("vmihailenco/msgpack#376"),
		mute("handshake/map-bomb", "a map of 2^32-1 keys in five bytes", framed("\xdf\xff\xff\xff\xff")),
		mute("handshake/depth-bomb", "two million arrays within each other", framed(strings.Repeat("\x91", 2<<20))),
		mute("handshake/wrong-type", "a number instead of hello", framed("\x01")),
		{
			ID: "handshake/second", Says: "connect a second time, and say hello again", Want: "refused", NoControl: "that the first hello is accepted is part of the case",
			Attack: func([]string) error {
				var mux peer.Mux
				peer.Handle(&mux, "again", func(ctx context.Context, _ string) (string, error) {
					c, err := ipc.Dial(socket())
					if err != nil {
						return "", err
					}
					if _, err = peer.Over(ctx, c, nil); errors.Is(err, session.ErrBusy) {
						return "refused", nil
					}
					return Through, err
				})
				return peer.Serve(context.Background(), &mux)
			},
			Run: func(s *stage) (out string, err error) {
				spec := s.this("handshake/second")
				spec.Peer = true
				err = sandbox.Run(s.ctx, func(ctx context.Context, n *sandbox.Nursery) error {
					a, err := n.Start(ctx, spec)
					if err == nil {
						out, err = sandbox.Call[string, string](ctx, a, "again", "")
					}
					return err
				}, sandbox.On(s.suite.host))
				return out, err
			},
		},
		{
			ID: "handshake/stranger", Says: "connect to an actor's socket from outside of it", Want: "hung up",
			Attack: func(args []string) error {
				if len(args) > 0 { // the control: from inside
					c, err := ipc.Dial(socket())
					if err != nil {
						return err
					}
					defer c.Close()
				}
				fmt.Println(socket())
				time.Sleep(patience)
				return nil
			},
			Run: stranger,
		},
		{
			ID: "handshake/descriptors", Says: "send the supervisor descriptors that it did not ask for", Want: "dropped",
			NoControl: "a supervisor that takes them would be another program",
			Attack: func([]string) error {
				c, err := ipc.Dial(socket())
				if err != nil {
					return err
				}
				null, err := os.Open("/dev/null")
				if err != nil {
					return err
				}
				defer null.Close()
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				c.Close()
				if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket()}); err != nil {
					return err
				}
				for range 32 {
					if err := unix.Sendmsg(fd, []byte("x"), unix.UnixRights(int(null.Fd()), 0, 1, 2), nil, 0); err != nil {
						return err
					}
				}
				time.Sleep(patience)
				return nil
			},
			Run: func(s *stage) (string, error) {
				spec := s.this("handshake/descriptors")
				spec.Peer = true
				p, err := s.suite.host.Start(s.ctx, spec)
				if err != nil {
					return "", err
				}
				defer func() { p.Cancel("attacked", 0); <-p.Gone() }()
				for range 2 { // the first connection is closed at once
					c, err := p.Accept(s.ctx)
					if err != nil {
						return "", err
					}
					defer c.Close()
					before, err := os.ReadDir("/proc/self/fd")
					if err != nil {
						return "", err
					}
					if _, err := io.ReadFull(c, make([]byte, 32)); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
						continue
					} else if err != nil {
						return outcome(err), nil
					}
					after, err := os.ReadDir("/proc/self/fd")
					if len(after) > len(before) {
						return Through, err
					}
					return "dropped", err
				}
				return "", errors.New("the attacker did not connect")
			},
		},
	}
}

// stranger connects to an actor's socket from the host, which as root it can reach.
func stranger(s *stage) (string, error) {
	spec := s.this("handshake/stranger")
	if s.control {
		spec.Argv = append(spec.Argv, "inside")
	}
	spec.Peer = true
	r, w := io.Pipe()
	spec.Stdout = w
	p, err := s.suite.host.Start(s.ctx, spec)
	if err != nil {
		return "", err
	}
	defer func() { p.Cancel("attacked", 0); r.Close(); <-p.Gone() }()
	if !s.control {
		line := make([]byte, 256)
		n, err := r.Read(line)
		if err != nil {
			return "", err
		}
		path := strings.TrimSpace(string(line[:n]))
		if path == peer.Socket { // in the sandbox's root
			path = fmt.Sprintf("/proc/%d/root%s", p.PID(), path)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return outcome(err), nil
		}
	} else {
		go func() { _, _ = io.Copy(io.Discard, r) }()
	}
	ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
	if s.control {
		cancel()
		ctx, cancel = context.WithTimeout(s.ctx, patience)
	}
	defer cancel()
	c, err := p.Accept(ctx)
	if err != nil {
		return "hung up", nil
	}
	return Through, c.Close()
}
