package unpack_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs/unpack"
)

// attack is an archive and what has to become of it. The same list seeds the
// fuzzer.
type attack struct {
	name    string
	archive []byte
	opts    unpack.Options
	want    error // nil: it is neutralised, and check says how
	check   func(t *testing.T, root string, s unpack.Stats)
}

// attacks aim at outside, an absolute path, or at "../outside".
func attacks(outside string) []attack {
	long := strings.Repeat("n", 255)
	longPath := strings.Repeat(long[:250]+"/", 15) + "file" // 3769 bytes
	deep := strings.TrimSuffix(strings.Repeat("d/", 128), "/")
	small := unpack.Options{Bytes: 64 << 10, Entries: 64}
	zeros := make([]byte, 8<<20)
	badSum := end(file("f", "x"))
	badSum[148] ^= 1
	gzBad := gz(end(file("f", "x")))
	gzBad[len(gzBad)-6] ^= 1
	zstBad := zst(end(file("f", "x")), 1<<20)
	zstBad[len(zstBad)-1] ^= 1
	whole := end(file("a", "one"), file("b", strings.Repeat("two", 1000)))

	return []attack{
		// Names.
		{name: "absolute", archive: end(file(outside+"/new", "x")), want: unpack.ErrEscape},
		{name: "absolute root", archive: end(dir("/")), want: unpack.ErrEscape},
		{name: "absolute by PAX", archive: end(pax('x', "path", outside+"/new"), file("f", "x")), want: unpack.ErrEscape},
		{name: "dotdot", archive: end(file("../outside/new", "x")), want: unpack.ErrEscape},
		{name: "dotdot inside", archive: end(dir("a"), file("a/../../outside/new", "x")), want: unpack.ErrEscape},
		{name: "dotdot that stays in", archive: end(dir("a"), file("a/../b", "x")), want: unpack.ErrEscape},
		{name: "dotdot last", archive: end(dir("a/..")), want: unpack.ErrEscape},
		{name: "dotdot behind a dot", archive: end(file("./../outside/new", "x")), want: unpack.ErrEscape},
		{name: "dotdot by PAX, the second time", archive: end(pax('x', "path", "f", "path", "../outside/new"), file("f", "x")), want: unpack.ErrEscape},
		{name: "dotdot by GNU long name, over a harmless name", archive: end(header('L', "././@LongLink", "", 0, 15), pad("../outside/new\x00"), file("f", "x")), want: unpack.ErrEscape},
		{name: "dotdot of a device", archive: end(device('3', "../outside/null")), want: unpack.ErrEscape},
		{name: "empty name", archive: end(file("", "x")), want: unpack.ErrName},
		{name: "dot as a file", archive: end(file(".", "x")), want: unpack.ErrName},
		{name: "dot as a link", archive: end(symlink("./", outside)), want: unpack.ErrName},
		{name: "file with a slash", archive: end(file("f/", "x")), want: unpack.ErrName},
		{name: "component too long", archive: end(file(long+"n", "x")), want: unpack.ErrName},
		{name: "path too long", archive: end(pax('x', "path", strings.Repeat("a/", 2048)), file("f", "")), want: unpack.ErrName},
		{name: "too deep", archive: end(dir(deep + "/d")), want: unpack.ErrName},
		{name: "NUL by PAX", archive: end(pax('x', "path", "a\x00b"), file("f", "x")), want: unpack.ErrFormat},
		{
			name: "NUL in a GNU long name", archive: end(member('0', "cut\x00"+long, "", 0o644, "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "cut", "x") },
		},
		{
			name: "odd bytes", archive: end(file("new\nline \x1b[2J\xff\\", "x"), file(".wh.plain", "y"), file(" ", "z"), file("...", "w")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "new\nline \x1b[2J\xff\\", "x")
				wantFile(t, root, ".wh.plain", "y")
				wantFile(t, root, " ", "z")
				wantFile(t, root, "...", "w")
			},
		},
		{
			name: "long names", archive: end(pax('x', "path", "pax/"+long), file("f", "x"), file("gnu/"+longPath, "y"), dir(deep)),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "pax/"+long, "x")
				wantFile(t, root, "gnu/"+longPath, "y")
			},
		},
		{
			name: "dots and slashes", archive: end(dir("./"), dir("."), file("./a//./b", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "a/b", "x") },
		},

		// Symbolic links.
		{name: "through an absolute link", archive: end(symlink("l", outside), file("l/secret", "x")), want: unpack.ErrParent},
		{name: "through a climbing link", archive: end(symlink("l", "../outside"), file("l/secret", "x")), want: unpack.ErrParent},
		{
			name: "through a link to the root above", archive: end(symlink("l", "../../.."), file("l/f", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "f", "x") },
		},
		{
			name: "through a chain", archive: end(dir("a"), symlink("a/b", ".."), symlink("a/c", "b/.."), symlink("d", "a/c/../../.."), file("d/f", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "f", "x") },
		},
		{
			name: "through a link with the same place inside", archive: end(dir(strings.TrimPrefix(outside, "/")), symlink("l", outside), file("l/secret", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, outside+"/secret", "x") },
		},
		{
			name: "onto a link", archive: end(symlink("l", "../outside/secret"), file("l", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "l", "x") },
		},
		{
			name: "directory onto a link", archive: end(symlink("l", "../outside"), dir("l"), file("l/secret", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "l/secret", "x") },
		},
		{
			name: "directory onto a link inside", archive: end(dir("d"), symlink("l", "d"), member('5', "l", "", 0o777, ""), file("l/f", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantMode(t, root, "d", 0o755)
				wantNames(t, filepath.Join(root, "d"))
				wantNames(t, filepath.Join(root, "l"), "f")
			},
		},
		{name: "directory below a link", archive: end(symlink("l", "../outside"), dir("l/new")), want: unpack.ErrParent},
		{name: "link below a link", archive: end(symlink("l", outside), symlink("l/new", "x")), want: unpack.ErrParent},
		{name: "more links than the kernel follows", archive: end(symlink("l", "."), file(strings.Repeat("l/", 100)+"f", "x")), want: unpack.ErrParent},
		{name: "link to itself", archive: end(symlink("l", "l"), file("l/f", "x")), want: unpack.ErrParent},
		{name: "magic link", archive: end(symlink("l", "/proc/self/cwd"), file("l/f", "x")), want: unpack.ErrParent},
		{name: "link without target", archive: end(symlink("l", "")), want: unpack.ErrName},
		{name: "link with a long target", archive: end(symlink("l", strings.Repeat("t", 4096))), want: unpack.ErrName},
		{name: "links use up bytes", archive: end(symlink("a", long), symlink("b", long)), opts: unpack.Options{Bytes: 300}, want: unpack.ErrTooLarge},

		// Hard links.
		{name: "hard link out, absolute", archive: end(hardlink("h", outside+"/secret")), want: unpack.ErrEscape},
		{name: "hard link out, climbing", archive: end(hardlink("h", "../outside/secret")), want: unpack.ErrEscape},
		{name: "hard link through a link", archive: end(symlink("l", outside), hardlink("h", "l/secret")), want: unpack.ErrLink},
		{name: "hard link through a climbing link", archive: end(symlink("l", "../outside"), hardlink("h", "l/secret"), file("h", "x")), want: unpack.ErrLink},
		{name: "hard link out by PAX", archive: end(file("f", "x"), pax('x', "linkpath", outside+"/secret"), hardlink("h", "f")), want: unpack.ErrEscape},
		{name: "hard link out by GNU long link", archive: end(file("f", "x"), header('K', "././@LongLink", "", 0, 18), pad("../outside/secret\x00"), hardlink("h", "f")), want: unpack.ErrEscape},
		{
			name: "hard link through a link inside, then a new file", archive: end(dir("d"), file("d/f", "x"), symlink("l", "/d"), hardlink("h", "l/f"), symlink("l2", "../../d/."), file("l2/f", "y")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "h", "x")
				wantFile(t, root, "d/f", "y")
			},
		},
		{name: "hard link below a link", archive: end(file("f", "x"), symlink("l", outside), hardlink("l/h", "f")), want: unpack.ErrParent},
		{name: "hard link to nothing", archive: end(hardlink("h", "f")), want: unpack.ErrLink},
		{name: "hard link to a directory", archive: end(dir("d"), hardlink("h", "d")), want: unpack.ErrLink},
		{name: "hard link to the root", archive: end(hardlink("h", ".")), want: unpack.ErrLink},
		{name: "hard link to a device", archive: end(device('3', "null"), hardlink("h", "null")), want: unpack.ErrLink},
		{
			name: "hard link to a link", archive: end(symlink("l", "../outside/secret"), hardlink("h", "l"), symlink("m", outside+"/secret"), hardlink("i", "m")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantLink(t, root, "h", "../outside/secret")
				wantLink(t, root, "i", outside+"/secret")
			},
		},
		{
			name: "hard link to a link, then through it", archive: end(symlink("l", "../outside/secret"), hardlink("h", "l"), file("h", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "h", "x")
				wantLink(t, root, "l", "../outside/secret")
			},
		},
		{
			name: "hard link to itself", archive: end(file("f", "x"), hardlink("f", "f"), hardlink("g", "./f"), hardlink("f", "g")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "f", "x")
				wantFile(t, root, "g", "x")
			},
		},
		{
			name: "hard link, then a new file at one name", archive: end(file("f", "x"), hardlink("h", "f"), file("h", "y")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "f", "x")
				wantFile(t, root, "h", "y")
			},
		},

		// Types.
		{
			name: "devices and a fifo", archive: end(dir("dev"), device('3', "dev/null"), device('4', "dev/sda"), device('6', "dev/initctl")),
			check: func(t *testing.T, root string, s unpack.Stats) {
				if s.Skipped != 3 || s.Entries != 4 {
					t.Fatalf("%+v", s)
				}
				wantNames(t, filepath.Join(root, "dev"))
			},
		},
		{name: "unknown type", archive: end(member('V', "volume", "", 0, "")), want: unpack.ErrUnsupported},
		{name: "global path", archive: end(pax('g', "path", outside+"/new"), file("f", "x")), want: unpack.ErrUnsupported},
		{
			name: "global comment", archive: end(pax('g', "comment", "0123"), file("f", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "f", "x") },
		},
		{
			name: "setuid, setgid, sticky", archive: end(member('0', "su", "", 0o7755, "x"), member('5', "tmp", "", 0o7777, "")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantMode(t, root, "su", 0o755)
				wantMode(t, root, "tmp", 0o777|os.ModeSticky)
			},
		},
		{
			name: "every bit of the mode, no owner's", archive: end(odd(file("su", "x")), odd(dir("tmp")), odd(symlink("l", "su")), odd(hardlink("h", "su"))),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantMode(t, root, "su", 0o777)
				wantMode(t, root, "tmp", 0o777|os.ModeSticky)
			},
		},
		{
			name: "times without end", archive: end(
				pax('x', "mtime", "9223372036854775807.999999999"), file("late", "x"), pax('x', "mtime", "-9223372036854775808"), dir("early"),
				pax('x', "mtime", "9223372036854775807"), symlink("l", "late"), file("early/f", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantNames(t, root, "early", "l", "late") },
		},
		{
			name: "files of the old kinds", archive: end(member(0, "v7", "", 0o644, "x"), member(0, "d/", "", 0o755, ""), member('7', "cont", "", 0o644, "y")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				wantFile(t, root, "v7", "x")
				wantFile(t, root, "cont", "y")
				wantNames(t, filepath.Join(root, "d"))
			},
		},
		{name: "entries in the body of a hard link", archive: end(file("f", "x"), header('1', "h", "f", 0o644, 1024), file("../outside/new", "x")), want: unpack.ErrEscape},
		{
			name: "extended attributes", archive: end(pax('x', "SCHILY.xattr.security.capability", "\x01\x00\x00\x02\xff\xff\xff\xff", "SCHILY.xattr.user.x", "y", "LIBARCHIVE.xattr.user.z", "eg=="), file("f", "x")),
			check: func(t *testing.T, root string, _ unpack.Stats) {
				buf := make([]byte, 4096)
				n, err := unix.Llistxattr(filepath.Join(root, "f"), buf)
				if err != nil && err != unix.ENOTSUP {
					t.Fatal(err)
				}
				if got := string(buf[:max(n, 0)]); strings.Contains(got, "user.") || strings.Contains(got, "capability") {
					t.Fatalf("attributes: %q", got)
				}
			},
		},

		// One name twice.
		{name: "link onto a full directory", archive: end(file("d/f", "x"), symlink("d", outside), file("d/secret", "x")), want: unpack.ErrConflict},
		{name: "file onto a full directory", archive: end(file("d/f", "x"), file("d", "x")), want: unpack.ErrConflict},
		{name: "link onto an empty directory, then through it", archive: end(dir("d"), symlink("d", outside), file("d/secret", "x")), want: unpack.ErrParent},
		{name: "file as a parent", archive: end(file("f", "x"), file("f/g", "y")), want: unpack.ErrParent},
		{
			name: "swap below an open directory", archive: end(dir("d"), symlink("d/self", "."), file("d/self/a", "x"), symlink("d/self/self", "../outside"), file("d/self/secret", "y")),
			want: unpack.ErrParent,
		},
		{
			name: "back and forth", archive: end(file("n", "x"), dir("n"), symlink("n", outside), file("n", "y"), dir("n"), file("n/f", "z")),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "n/f", "z") },
		},

		// Sizes.
		{name: "file too large", archive: end(header('0', "f", "", 0o644, 1<<20)), opts: small, want: unpack.ErrTooLarge},
		{name: "files too large together", archive: end(file("a", string(zeros[:40<<10])), file("b", string(zeros[:40<<10]))), opts: small, want: unpack.ErrTooLarge},
		{name: "size by PAX", archive: end(pax('x', "size", "9223372036854775807"), file("f", "x")), want: unpack.ErrTooLarge},
		{name: "negative size by PAX", archive: end(pax('x', "size", "-1"), file("f", "x")), want: unpack.ErrFormat},
		{name: "PAX header of 1 GiB", archive: end(header('x', "p", "", 0, 1<<30), zeros), want: unpack.ErrFormat},
		{name: "PAX record length", archive: end(header('x', "p", "", 0, 24), pad("99999999999999999999 a=b")), want: unpack.ErrFormat},
		{name: "GNU sparse bomb", archive: end(gnuSparse("s", "x", 1<<40)), want: unpack.ErrTooLarge},
		{name: "PAX sparse 0.1 bomb", archive: end(pax('x', "GNU.sparse.size", "1099511627776", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,1"), file("s", "x")), want: unpack.ErrTooLarge},
		{name: "PAX sparse 1.0 bomb", archive: end(pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "s", "GNU.sparse.realsize", "1099511627776"), file("s", "1\n0\n1\n"+string(zeros[:506])+"x")), want: unpack.ErrTooLarge},
		{name: "PAX sparse map bomb", archive: end(pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "10"), file("s", "999999999\n"+strings.Repeat("0\n0\n", 1<<19))), want: unpack.ErrFormat},
		{name: "PAX sparse name", archive: end(pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "../outside/secret", "GNU.sparse.realsize", "1"), file("s", "1\n0\n1\n"+string(zeros[:506])+"x")), want: unpack.ErrEscape},
		{
			name: "honest sparse file", archive: end(gnuSparse("s", "end", 5000)),
			check: func(t *testing.T, root string, s unpack.Stats) {
				wantFile(t, root, "s", string(zeros[:4997])+"end")
				if s.Bytes != 5000 {
					t.Fatalf("%+v", s)
				}
			},
		},
		{name: "too many entries", archive: end(file("a", ""), file("b", ""), file("a", "")), opts: unpack.Options{Entries: 2}, want: unpack.ErrTooMany},
		{name: "too many parents", archive: end(file("a/b/c/d/e", "")), opts: unpack.Options{Entries: 4}, want: unpack.ErrTooMany},
		{name: "headers without entries", archive: join(repeat(pax('x', "comment", string(zeros[:1<<19])), 4)...), opts: small, want: unpack.ErrTooLarge},

		// Compression.
		{name: "gzip bomb", archive: gz(end(file("f", string(zeros)))), opts: small, want: unpack.ErrTooLarge},
		{name: "gzip bomb behind the end", archive: gz(join(end(file("f", "x")), zeros)), opts: small, want: unpack.ErrTooLarge},
		{name: "zstd bomb", archive: zst(end(file("f", string(zeros))), 1<<20), opts: small, want: unpack.ErrTooLarge},
		{name: "zstd bomb behind the end", archive: zst(join(end(file("f", "x")), zeros), 1<<20), opts: small, want: unpack.ErrTooLarge},
		{name: "zstd window of 3.75 TiB", archive: []byte("\x28\xb5\x2f\xfd\x00\xff\x01\x00\x00"), want: unpack.ErrUnsupported},
		{name: "zstd window of 64 MiB", archive: []byte("\x28\xb5\x2f\xfd\x00\x80\x01\x00\x00"), want: unpack.ErrUnsupported},
		{name: "zstd single segment of 8 EiB", archive: []byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00\x00"), want: unpack.ErrUnsupported},
		{name: "xz", archive: []byte("\xfd7zXZ\x00\x00\x04"), want: unpack.ErrUnsupported},
		{name: "gzip in gzip", archive: gz(join(repeat(gz(whole), 9)...)), want: unpack.ErrFormat},
		{
			name: "gzip members", archive: join(gz(whole[:700]), gz(nil), gz(whole[700:])),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "a", "one") },
		},
		{
			name: "zstd frames", archive: join([]byte("\x5a\x2a\x4d\x18\x02\x00\x00\x00hi"), zst(whole[:700], 1<<20), zst(whole[700:], 1<<20)),
			check: func(t *testing.T, root string, _ unpack.Stats) { wantFile(t, root, "a", "one") },
		},

		// Damage.
		{name: "nothing", archive: nil, want: unpack.ErrTruncated},
		{name: "not an archive", archive: []byte(strings.Repeat("<html>", 200)), want: unpack.ErrFormat},
		{name: "cut in a header", archive: whole[:100], want: unpack.ErrTruncated},
		{name: "cut in a body", archive: whole[:2000], want: unpack.ErrTruncated},
		{name: "cut between entries", archive: whole[:1024], want: unpack.ErrTruncated},
		{name: "cut in the end marker", archive: whole[:len(whole)-512], want: unpack.ErrTruncated},
		{name: "cut gzip", archive: gz(whole)[:60], want: unpack.ErrTruncated},
		{name: "cut gzip trailer", archive: gz(whole)[:len(gz(whole))-3], want: unpack.ErrTruncated},
		{name: "cut zstd", archive: zst(whole, 1<<20)[:60], want: unpack.ErrTruncated},
		{name: "header checksum", archive: badSum, want: unpack.ErrFormat},
		{name: "gzip checksum", archive: gzBad, want: unpack.ErrFormat},
		{name: "zstd checksum", archive: zstBad, want: unpack.ErrFormat},
		{name: "second archive", archive: join(whole, end(file("c", "hidden"))), want: unpack.ErrFormat},
		{name: "second archive in a gzip member", archive: join(gz(whole), gz(end(file("c", "hidden")))), want: unpack.ErrFormat},
	}
}

func TestAttacks(t *testing.T) {
	for _, insecure := range []string{"1", "0"} { // archive/tar's own idea of names must not matter
		t.Run("tarinsecurepath="+insecure, func(t *testing.T) {
			t.Setenv("GODEBUG", "tarinsecurepath="+insecure)
			a := newArena(t)
			for _, at := range attacks(filepath.Join(a.dir, "outside")) {
				t.Run(at.name, func(t *testing.T) {
					a.tb = t
					must(t, os.RemoveAll(a.root()))
					must(t, os.Mkdir(a.root(), 0o755))
					a.before = snapshot(t, a.dir, "root")
					stats, err := a.tar(at.archive, at.opts)
					t.Logf("%+v %v", stats, err)
					a.intact()
					if !errors.Is(err, at.want) {
						t.Fatalf("got %v, want %v", err, at.want)
					}
					var ee *unpack.EntryError
					if err != nil && !errors.As(err, &ee) {
						t.Fatalf("%T is no *EntryError", err)
					}
					if at.check != nil {
						at.check(t, a.root(), stats)
					}
				})
			}
		})
	}
}

// odd gives an entry the mode and the owners that nobody has: -1.
func odd(entry []byte) []byte {
	copy(entry[100:], strings.Repeat("\xff", 24))
	return append(sum(entry[:512]), entry[512:]...)
}

func repeat(b []byte, n int) (all [][]byte) {
	for range n {
		all = append(all, b)
	}
	return all
}

func wantFile(t *testing.T, root, name, body string) {
	t.Helper()
	p := filepath.Join(root, name)
	st, err := os.Lstat(p)
	must(t, err)
	got, err := os.ReadFile(p)
	must(t, err)
	if !st.Mode().IsRegular() || string(got) != body {
		t.Fatalf("%q: %v %.40q, want a file with %.40q", name, st.Mode(), got, body)
	}
}

func wantLink(t *testing.T, root, name, to string) {
	t.Helper()
	got, err := os.Readlink(filepath.Join(root, name))
	must(t, err)
	if got != to {
		t.Fatalf("%q leads to %q, want %q", name, got, to)
	}
}

func wantMode(t *testing.T, root, name string, mode os.FileMode) {
	t.Helper()
	st, err := os.Lstat(filepath.Join(root, name))
	must(t, err)
	if got := st.Mode() &^ os.ModeType; got != mode {
		t.Fatalf("%q has mode %v, want %v", name, got, mode)
	}
}

func wantNames(t *testing.T, dir string, names ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
	}
	if strings.Join(got, "\n") != strings.Join(names, "\n") {
		t.Fatalf("%q holds %q, want %q", dir, got, names)
	}
}
