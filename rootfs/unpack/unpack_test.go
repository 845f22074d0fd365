package unpack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs/unpack"
)

func TestModesAndTimes(t *testing.T) {
	archive := end(
		member('5', "./", "", 0o750, ""),
		member('5', "private", "", 0o700, ""),
		member('0', "private/tool", "", 0o700, "x"),
		member('5', "closed", "", 0o000, ""),
		member('5', "sealed", "", 0o555, ""),
		member('0', "sealed/data", "", 0o620, "x"),
		member('0', "private/late", "", 0o000, "x"), // back to an earlier directory
		symlink("alias", "sealed"),
		member('0', "alias/more", "", 0o444, "x"),
		hardlink("linked", "private/tool"),
		file("implied/f", ""),
	)
	for _, tc := range []struct {
		readable bool
		want     map[string]os.FileMode
	}{
		{false, map[string]os.FileMode{
			".": 0o750, "private": 0o700, "private/tool": 0o700, "closed": 0o700, "sealed": 0o755,
			"sealed/data": 0o620, "sealed/more": 0o444, "private/late": 0, "linked": 0o700, "implied": 0o755,
		}},
		{true, map[string]os.FileMode{
			".": 0o755, "private": 0o755, "private/tool": 0o755, "closed": 0o700, "sealed": 0o755,
			"sealed/data": 0o664, "sealed/more": 0o444, "private/late": 0, "linked": 0o755, "implied": 0o755,
		}},
	} {
		old := unix.Umask(0o077) // must not matter
		a := newArena(t)
		stats, err := a.tar(archive, unpack.Options{Readable: tc.readable})
		unix.Umask(old)
		must(t, err)
		a.intact()
		if want := (unpack.Stats{Entries: 11, Implied: 1, Bytes: 10}); stats != want {
			t.Errorf("stats %+v, want %+v", stats, want)
		}
		for name, mode := range tc.want {
			wantMode(t, a.root(), name, mode)
			st, err := os.Lstat(filepath.Join(a.root(), name))
			must(t, err)
			if name != "implied" && st.ModTime().Unix() != past {
				t.Errorf("%q has mtime %v", name, st.ModTime())
			}
		}
	}
}

// However the archive arrives, it must come out the same.
func TestReaders(t *testing.T) {
	plain := end(dir("d"), file("d/f", strings.Repeat("0123456789", 1000)), symlink("l", "d/f"))
	for _, archive := range [][]byte{plain, gz(plain), zst(plain, 1<<20), zst(plain, 32<<20)} {
		for _, wrap := range []func(io.Reader) io.Reader{
			iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
		} {
			a := newArena(t)
			dst, err := os.Open(a.root())
			must(t, err)
			stats, err := unpack.Tar(t.Context(), dst, wrap(bytes.NewReader(archive)), unpack.Options{})
			must(t, err)
			dst.Close()
			a.intact()
			if want := (unpack.Stats{Entries: 3, Bytes: 10003}); stats != want {
				t.Errorf("stats %+v, want %+v", stats, want)
			}
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A few compressed bytes are read at once and are worth many entries: the
// context must be seen to have ended without another read of the source.
func TestCancel(t *testing.T) {
	plain := end(repeat(file("f", strings.Repeat("x", 10_000)), 1000)...)
	cause := errors.New("operator said stop")
	for name, archive := range map[string][]byte{"plain": plain, "gzip": gz(plain), "zstd": zst(plain, 1<<20)} {
		t.Run(name, func(t *testing.T) {
			a := newArena(t)
			dst, err := os.Open(a.root())
			must(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			src := bytes.NewReader(archive)
			stats, err := unpack.Tar(ctx, dst, readerFunc(func(p []byte) (int, error) {
				n, err := src.Read(p)
				cancel(cause)
				return n, err
			}), unpack.Options{})
			dst.Close()
			a.intact()
			if !errors.Is(err, cause) || errors.Is(err, unpack.ErrFormat) || stats.Entries > 0 {
				t.Fatalf("%+v %v", stats, err)
			}
		})
	}
}

func TestSourceFails(t *testing.T) {
	plain := end(file("f", strings.Repeat("x", 200_000)))
	broken := errors.New("connection reset")
	for name, archive := range map[string][]byte{"at once": nil, "plain": plain[:100_000], "gzip": gz(plain)[:200], "zstd": zst(plain, 1<<20)[:20]} {
		t.Run(name, func(t *testing.T) {
			a := newArena(t)
			dst, err := os.Open(a.root())
			must(t, err)
			_, err = unpack.Tar(t.Context(), dst, io.MultiReader(bytes.NewReader(archive), iotest.ErrReader(broken)), unpack.Options{})
			dst.Close()
			a.intact()
			if !errors.Is(err, broken) || errors.Is(err, unpack.ErrFormat) || errors.Is(err, unpack.ErrTruncated) {
				t.Fatal(err)
			}
		})
	}
}

func TestBadArguments(t *testing.T) {
	a := newArena(t)
	if _, err := a.tar(end(), unpack.Options{Entries: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
	f, err := os.Open(filepath.Join(a.dir, "canary"))
	must(t, err)
	_, err = unpack.Tar(t.Context(), f, bytes.NewReader(end()), unpack.Options{})
	if !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file as destination: %v", err)
	}
	f.Close()
	if _, err := unpack.Tar(t.Context(), f, bytes.NewReader(end()), unpack.Options{}); !errors.Is(err, unix.EBADF) {
		t.Errorf("a closed destination: %v", err)
	}
	a.intact()
}

// The default limit on entries, with members that cost nothing but a header.
func TestMillionEntries(t *testing.T) {
	a := newArena(t)
	dst, err := os.Open(a.root())
	must(t, err)
	defer dst.Close()
	block := device('3', "dev/null")
	endless := readerFunc(func(p []byte) (n int, _ error) {
		for n < len(p) {
			n += copy(p[n:], block)
		}
		return len(p) &^ 511, nil
	})
	stats, err := unpack.Tar(t.Context(), dst, endless, unpack.Options{})
	var ee *unpack.EntryError
	if !errors.As(err, &ee) || ee.Index != 1_000_000 || !errors.Is(err, unpack.ErrTooMany) {
		t.Fatalf("%+v %v", stats, err)
	}
}

// What an archive claims must not decide what we allocate.
func TestMemory(t *testing.T) {
	for _, at := range attacks("/outside") {
		switch {
		case strings.HasPrefix(at.name, "zstd window"), strings.HasPrefix(at.name, "zstd single"),
			strings.Contains(at.name, "sparse"), strings.HasPrefix(at.name, "PAX"):
		default:
			continue
		}
		a := newArena(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := a.tar(at.archive, at.opts)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
			t.Errorf("%s: %d MiB allocated (%v)", at.name, got>>20, err)
		}
	}
}

func TestErrorText(t *testing.T) {
	a := newArena(t)
	_, err := a.tar(end(file("f", "x"), file("../\x1b[2J"+strings.Repeat("é", 300), "x")), unpack.Options{})
	text := err.Error()
	if len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("not fit for a log: %q", text)
	}
	if !strings.HasPrefix(text, `unpack: entry 1 "../\x1b[2J`) {
		t.Error(text)
	}
}

// detachedTmpfs is what the package is for: a mount reachable through its
// O_PATH descriptor only.
func detachedTmpfs(t *testing.T, size string) *os.File {
	t.Helper()
	hosttest.Sealed(t)
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		hosttest.Lack(t, "a tmpfs to mount: %v", err)
	}
	defer unix.Close(fs)
	must(t, unix.FsconfigSetString(fs, "size", size))
	must(t, unix.FsconfigCreate(fs))
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	must(t, err)
	f := os.NewFile(uintptr(fd), "tmpfs")
	t.Cleanup(func() { f.Close() })
	return f
}

func TestDetachedMount(t *testing.T) {
	dst := detachedTmpfs(t, "1m")
	_, err := unpack.Tar(t.Context(), dst, bytes.NewReader(end(symlink("bin", "/usr/bin"), file("usr/bin/a", "x"), file("bin/b", "y"))), unpack.Options{})
	must(t, err)
	for name, want := range map[string]string{"usr/bin/a": "x", "usr/bin/b": "y"} {
		fd, err := unix.Openat(int(dst.Fd()), name, unix.O_RDONLY, 0)
		must(t, err)
		f := os.NewFile(uintptr(fd), name)
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}

	_, err = unpack.Tar(t.Context(), dst, bytes.NewReader(end(file("big", strings.Repeat("x", 2<<20)))), unpack.Options{})
	var ee *unpack.EntryError
	if !errors.As(err, &ee) || !errors.Is(err, unix.ENOSPC) || ee.Name != `"big"` {
		t.Errorf("full: %v", err)
	}
}

func TestMountBelow(t *testing.T) {
	a := newArena(t)
	mnt := filepath.Join(a.root(), "m")
	must(t, os.Mkdir(mnt, 0o755))
	// The mount is for this thread only, which ends with the test.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		hosttest.Lack(t, "a mount namespace: %v", err)
	}
	must(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	must(t, unix.Mount("t", mnt, "tmpfs", 0, "mode=0711"))
	t.Cleanup(func() { unix.Unmount(mnt, unix.MNT_DETACH) }) // still on this thread
	must(t, os.WriteFile(filepath.Join(mnt, "f"), []byte("x"), 0o644))
	before := snapshot(t, mnt, "")
	for name, archive := range map[string][]byte{
		"file in it": file("m/f", "y"), "its root": member('5', "m", "", 0o777, ""),
		"onto it": symlink("m", "x"), "link from it": hardlink("h", "m/f"),
		"through a link": join(symlink("l", "m"), file("l/f", "y")),
	} {
		if _, err := a.tar(end(archive), unpack.Options{}); !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := diff(before, snapshot(t, mnt, "")); d != "" {
		t.Error(d)
	}
}

// Directories whose recorded mode would lock their owner out are only a
// trouble for one who has no CAP_DAC_OVERRIDE: root runs the tests again as
// somebody else.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		return // all tests of this run are unprivileged
	}
	tmp, err := os.MkdirTemp("", "unpack")
	must(t, err)
	defer os.RemoveAll(tmp)
	must(t, os.Chmod(tmp, 0o777))
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	exe := filepath.Join(tmp, "unpack.test")
	must(t, os.WriteFile(exe, self, 0o755))
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^(TestAttacks|TestModesAndTimes|TestReaders)$")
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "GOTMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
