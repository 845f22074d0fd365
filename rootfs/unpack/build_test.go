package unpack_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs/unpack"
)

// Archives are put together block by block here: archive/tar would refuse to
// write most of what an attacker writes.

const past = 1_000_000_000 // mtime of every entry, 2001

// header is one 512-byte header with a valid checksum; size may lie.
func header(typ byte, name, link string, mode, size int64) []byte {
	b := make([]byte, 512)
	copy(b[0:100], name)
	copy(b[100:], fmt.Sprintf("%07o\x00%07o\x00%07o\x00", mode, 0, 0))
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, int64(past)))
	b[156] = typ
	copy(b[157:257], link)
	copy(b[257:], "ustar\x0000")
	return sum(b)
}

func sum(b []byte) []byte {
	copy(b[148:156], "        ")
	n := 0
	for _, c := range b[:512] {
		n += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", n))
	return b
}

func pad(body string) []byte {
	return append([]byte(body), make([]byte, -len(body)&511)...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// member is an entry with a mode; names that need it become GNU long names.
func member(typ byte, name, link string, mode int64, body string) []byte {
	var out []byte
	if len(name) > 100 {
		out = join(header('L', "././@LongLink", "", 0, int64(len(name))), pad(name))
	}
	if len(link) > 100 {
		out = join(out, header('K', "././@LongLink", "", 0, int64(len(link))), pad(link))
	}
	return join(out, header(typ, name, link, mode, int64(len(body))), pad(body))
}

func file(name, body string) []byte    { return member('0', name, "", 0o644, body) }
func dir(name string) []byte           { return member('5', name, "", 0o755, "") }
func symlink(name, to string) []byte   { return member('2', name, to, 0o777, "") }
func hardlink(name, to string) []byte  { return member('1', name, to, 0o644, "") }
func device(typ byte, n string) []byte { return member(typ, n, "", 0o666, "") }

// pax is an extended header ('x', or 'g' for a global one): key, value, ...
func pax(typ byte, kv ...string) []byte {
	var body string
	for i := 0; i < len(kv); i += 2 {
		rest := " " + kv[i] + "=" + kv[i+1] + "\n"
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n++
		}
		body += fmt.Sprint(n) + rest
	}
	return join(header(typ, "PaxHeaders/x", "", 0o644, int64(len(body))), pad(body))
}

// gnuSparse is an old GNU sparse entry: data at the end of a file of size real.
func gnuSparse(name, data string, real int64) []byte {
	b := header('S', name, "", 0o644, int64(len(data)))
	copy(b[257:], "ustar  \x00")
	copy(b[386:], join(base256(real-int64(len(data))), base256(int64(len(data)))))
	copy(b[483:], base256(real))
	return join(sum(b), pad(data))
}

// base256 is a size that does not fit in octal digits.
func base256(n int64) []byte {
	b := make([]byte, 12)
	for i := 11; i > 3; i-- {
		b[i], n = byte(n), n>>8
	}
	b[0] |= 0x80
	return b
}

// end closes an archive.
func end(parts ...[]byte) []byte { return join(join(parts...), make([]byte, 1024)) }

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(b []byte, window int) []byte {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// arena is a place to unpack into, and its surroundings:
//
//	dir/canary  dir/outside/secret  dir/root/ (the destination)
type arena struct {
	tb     testing.TB
	dir    string
	before map[string]string
	fds    int
}

func newArena(tb testing.TB) *arena {
	tb.Helper()
	hosttest.Sealed(tb)
	a := &arena{tb: tb, dir: tb.TempDir()}
	for _, d := range []string{"root", "outside"} {
		must(tb, os.Mkdir(filepath.Join(a.dir, d), 0o755))
	}
	must(tb, os.WriteFile(filepath.Join(a.dir, "canary"), []byte("canary"), 0o644))
	must(tb, os.WriteFile(filepath.Join(a.dir, "outside/secret"), []byte("secret"), 0o600))
	a.before, a.fds = snapshot(tb, a.dir, "root"), openFDs(tb)
	return a
}

func (a *arena) root() string { return filepath.Join(a.dir, "root") }

func (a *arena) tar(archive []byte, opts unpack.Options) (unpack.Stats, error) {
	a.tb.Helper()
	dst, err := os.Open(a.root())
	must(a.tb, err)
	defer dst.Close()
	return unpack.Tar(a.tb.Context(), dst, bytes.NewReader(archive), opts)
}

// intact fails the test if anything but the destination changed, if a
// descriptor is still open, or if the destination holds what it never may.
func (a *arena) intact() {
	a.tb.Helper()
	if diff := diff(a.before, snapshot(a.tb, a.dir, "root")); diff != "" {
		a.tb.Fatalf("changed outside of the destination:\n%s", diff)
	}
	if n := openFDs(a.tb); n != a.fds {
		a.tb.Fatalf("%d descriptors open, %d before", n, a.fds)
	}
	must(a.tb, filepath.WalkDir(a.root(), func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(a.tb, unix.Lstat(p, &st))
		kind := st.Mode & unix.S_IFMT
		if kind != unix.S_IFREG && kind != unix.S_IFDIR && kind != unix.S_IFLNK {
			a.tb.Fatalf("%q has type %o", p, kind)
		}
		if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
			a.tb.Fatalf("%q has mode %o", p, st.Mode)
		}
		if kind == unix.S_IFREG && st.Mode&unix.S_ISVTX != 0 {
			a.tb.Fatalf("file %q is sticky", p)
		}
		if int(st.Uid) != os.Geteuid() {
			a.tb.Fatalf("%q belongs to %d", p, st.Uid)
		}
		return nil
	}))
}

// snapshot describes a tree: type, mode, size, links, mtime and contents of
// everything but the directory skip (whose entry is not described either).
func snapshot(tb testing.TB, top, skip string) map[string]string {
	tb.Helper()
	seen := map[string]string{}
	must(tb, filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, p)
		if rel == skip {
			return fs.SkipDir
		}
		seen[rel] = describe(tb, p)
		return nil
	}))
	return seen
}

func describe(tb testing.TB, p string) string {
	tb.Helper()
	var st unix.Stat_t
	must(tb, unix.Lstat(p, &st))
	s := fmt.Sprintf("%o %d.%09d", st.Mode, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(p)
		must(tb, err)
		s += fmt.Sprintf(" links %d size %d sum %x", st.Nlink, st.Size, sha256.Sum256(b))
	case unix.S_IFLNK:
		to, err := os.Readlink(p)
		must(tb, err)
		s += fmt.Sprintf(" -> %q", to)
	}
	return s
}

func diff(want, got map[string]string) string {
	var out strings.Builder
	for k, v := range want {
		if got[k] != v {
			fmt.Fprintf(&out, "%q: want %q, got %q\n", k, v, got[k])
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			fmt.Fprintf(&out, "%q: new, %q\n", k, v)
		}
	}
	return out.String()
}

func openFDs(tb testing.TB) int {
	tb.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	must(tb, err)
	return len(names)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
