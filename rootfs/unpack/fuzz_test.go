package unpack_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs/unpack"
)

// FuzzTar unpacks next to canaries. Mutations nearly always break a header's
// checksum, so that every input is unpacked as it is and with its headers
// repaired. It goes faster with TMPDIR on a tmpfs and -fuzzminimizetime=1x.
func FuzzTar(f *testing.F) {
	// The workers are other processes; absolute names in the seeds must mean
	// the same to them.
	const env = "UNPACK_FUZZ_OUTSIDE"
	if _, err := os.Stat(os.Getenv(env)); err != nil {
		must(f, os.Setenv(env, f.TempDir()))
		must(f, os.WriteFile(filepath.Join(os.Getenv(env), "secret"), []byte("secret"), 0o600))
	}
	outside := os.Getenv(env)
	for _, at := range attacks(outside) {
		if len(at.archive) < 64<<10 {
			f.Add(at.archive)
		}
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		for _, archive := range [][]byte{archive, repair(archive)} {
			opts := unpack.Options{Bytes: 64 << 10, Entries: 32}
			before := snapshot(t, outside, "")
			a := newArena(t)
			stats, err := a.tar(archive, opts)
			a.intact()
			if d := diff(before, snapshot(t, outside, "")); d != "" {
				t.Fatalf("changed outside:\n%s", d)
			}
			var ee *unpack.EntryError
			if err != nil && !errors.As(err, &ee) {
				t.Fatalf("%T: %v", err, err)
			}
			if stats.Bytes > opts.Bytes || stats.Entries+stats.Implied > opts.Entries+1 {
				t.Fatalf("over the limits: %+v", stats)
			}
			bytes, inodes := usage(t, a.root())
			if bytes > stats.Bytes || inodes > stats.Entries+stats.Implied-stats.Skipped {
				t.Fatalf("%d bytes in %d inodes, but %+v", bytes, inodes, stats)
			}
		}
	})
}

// usage counts what is below root, hard links once.
func usage(t *testing.T, root string) (bytes int64, inodes int) {
	seen := map[uint64]bool{}
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		if !seen[st.Ino] {
			seen[st.Ino] = true
			inodes++
			if !d.IsDir() {
				bytes += st.Size
			}
		}
		return nil
	}))
	return bytes, inodes
}

// repair walks the blocks as a reader would and corrects what is checked
// before anything interesting happens.
func repair(archive []byte) []byte {
	out := append([]byte(nil), archive...)
	out = append(out, make([]byte, -len(out)&511)...)
	for off := 0; off+512 <= len(out); {
		b := out[off : off+512]
		if strings.Trim(string(b), "\x00") == "" {
			return append(out[:off:off], make([]byte, 1024)...)
		}
		size, err := strconv.ParseInt(strings.Trim(string(b[124:136]), " \x00"), 8, 64)
		if err != nil || size < 0 || size > int64(len(out)-off-512) {
			size = 0
			copy(b[124:136], "00000000000\x00")
		}
		sum(b)
		off += 512 + int(size+511)&^511
	}
	return append(out, make([]byte, 1024)...)
}
