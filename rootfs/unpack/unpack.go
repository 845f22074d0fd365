// Package unpack unpacks a tar archive that nobody vouches for into a
// directory given as an open descriptor: typically the root of an empty tmpfs
// that is attached nowhere, and later becomes the root of a sandbox.
//
//	stats, err := unpack.Tar(ctx, dir, archive, unpack.Options{Bytes: 512 << 20})
//
// The archive may be plain, gzip (RFC 1952) or zstd (RFC 8878); which one is
// told by its first bytes. V7, ustar, PAX and GNU headers are understood.
// Every operation is relative to a descriptor and resolved by openat2(2) with
// RESOLVE_IN_ROOT, so that symbolic links of the archive, absolute ones too,
// mean what they will mean inside the sandbox, and nothing outside the
// directory is ever looked up. That needs Linux 5.6.
//
// What an entry becomes:
//
//   - A name that is absolute, has a ".." or more than 128 components is
//     refused, not rewritten. Any other byte but NUL is a legal name and kept,
//     newlines and ".wh." too.
//   - The last component is never followed. What stands there goes first, as
//     with tar(1): a later entry wins. A directory stays a directory under a
//     directory entry, and is only replaced by something else while empty.
//   - Missing parents are made with mode 0755, and count as entries.
//   - A hard link must lead to a regular file or a symbolic link that is there.
//   - Devices and fifos are skipped and counted: root file systems are shipped
//     with a /dev, and a sandbox gets one of its own.
//   - Permission bits and mtime are kept. Setuid and setgid are dropped, sticky
//     is kept on directories only, and directories are always u+rwx: their
//     owner is the caller, who has to fill them.
//   - Everything belongs to the caller. Recorded owners, extended attributes
//     (file capabilities, ACLs, labels) and file flags are ignored.
//   - Sparse files are written in full and count with their full size.
//
// Non-goals: applying image layers (whiteouts), making archives, other
// compressions, restoring owners or devices, defending a directory to which
// somebody else can write at the same time.
package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"
)

// Options bound and shape one call of Tar. A zero field is its default; a
// negative one is refused. There is no limit on the compression ratio: what
// comes out is bounded, whatever it is made from.
type Options struct {
	// Bytes is the sum of file sizes (holes included) and of the lengths of
	// symbolic links. Zero: 2 GiB. The uncompressed archive, with its headers
	// and padding, may have Bytes + 4 KiB per entry of Entries + 1 MiB.
	Bytes int64
	// Entries is how many members the archive may have, of any kind, and
	// missing parents that had to be made. Zero: 1,000,000.
	Entries int
	// Readable lets group and others do what the owner may, except write:
	// for a program that runs with another id than the caller's.
	Readable bool
}

// Stats says what was done, up to the error if there was one.
type Stats struct {
	Entries int   // members of the archive, skipped ones included
	Implied int   // parent directories made without a member of their own
	Bytes   int64 // as limited by Options.Bytes
	Skipped int   // devices and fifos
}

// Tar unpacks the archive src into the directory dst. dst may be opened with
// O_PATH, as fsmount(2) does; it stays open and belongs to the caller. It
// should be empty and nobody else may write to it meanwhile. src is read to its
// end, so that checksums are seen to match and nothing is hidden behind the
// end marker; it is read ahead of need.
//
// What is wrong with the archive is an *EntryError around one of the sentinels
// of this package, or around the kernel's errno (ENOSPC for a full dst). An
// error of src, and the cause of ctx when it ends, can be found with
// errors.Is. ctx is looked at between reads: a Read of src that blocks is for
// the caller to unblock. After any error a part of the archive is in dst, and
// throwing that away (unmounting it) is left to the caller.
func Tar(ctx context.Context, dst *os.File, src io.Reader, opts Options) (Stats, error) {
	if opts.Bytes < 0 || opts.Entries < 0 {
		return Stats{}, fmt.Errorf("unpack: negative limit in %+v: use 0 for the default", opts)
	}
	opts.defaults()
	t, err := openTree(dst)
	if err != nil {
		return Stats{}, fmt.Errorf("unpack: %w", err)
	}
	u := &unpacker{opts: opts, tree: t, buf: make([]byte, 128<<10)}
	u.in = newInput(ctx, src, opts.streamBytes())
	err = u.run()
	u.in.close()
	if cerr := t.close(); err == nil && cerr != nil {
		err = fmt.Errorf("unpack: %w", cerr)
	}
	return u.stats, err
}

func (o *Options) defaults() {
	if o.Bytes == 0 {
		o.Bytes = 2 << 30
	}
	if o.Entries == 0 {
		o.Entries = 1_000_000
	}
}

// streamBytes bounds the uncompressed archive: without it, headers that never
// become an entry and zeros behind the end could go on for ever.
func (o *Options) streamBytes() int64 {
	const perEntry, slack = 4 << 10, 1 << 20
	if int64(o.Entries) > (math.MaxInt64-slack-o.Bytes)/perEntry {
		return math.MaxInt64
	}
	return o.Bytes + int64(o.Entries)*perEntry + slack
}

// unpacker is the state of one call of Tar.
type unpacker struct {
	opts  Options
	in    *input
	tree  *tree
	stats Stats
	buf   []byte
}

func (u *unpacker) run() error {
	if err := u.in.open(); err != nil {
		return &EntryError{Err: u.in.explain(err)}
	}
	tr := tar.NewReader(u.in)
	for i := 0; ; i++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			if err := u.in.finish(u.buf); err != nil {
				return &EntryError{Index: i, Err: u.in.explain(err)}
			}
			return nil
		// The name is judged below, whatever GODEBUG says.
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return &EntryError{Index: i, Err: u.in.explain(err)}
		}
		if err := u.entry(h, tr); err != nil {
			return &EntryError{Name: quote(h.Name), Index: i, Err: err}
		}
	}
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	u.stats.Entries++
	if err := u.checkCount(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return checkGlobal(h.PAXRecords)
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir && name == "." {
		return u.rootDir(h)
	}
	if h.Typeflag != tar.TypeDir && (name == "." || strings.HasSuffix(h.Name, "/")) {
		return fmt.Errorf("%w: only a directory can be called so", ErrName)
	}

	dir, base := path.Split(name)
	switch h.Typeflag {
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		u.stats.Skipped++
		return nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(dir, base, h, body)
	case tar.TypeDir:
		return u.dir(dir, base, h)
	case tar.TypeSymlink:
		return u.symlink(dir, base, h)
	case tar.TypeLink:
		return u.hardlink(dir, base, h)
	}
	return fmt.Errorf("%w: entry of type %q", ErrUnsupported, h.Typeflag)
}

// checkCount is to be called after each count-up.
func (u *unpacker) checkCount() error {
	if u.stats.Entries+u.stats.Implied > u.opts.Entries {
		return fmt.Errorf("%w: more than %d", ErrTooMany, u.opts.Entries)
	}
	return nil
}

// charge takes n bytes off the budget.
func (u *unpacker) charge(n int64) error {
	if n > u.opts.Bytes-u.stats.Bytes {
		return fmt.Errorf("%w: %d bytes on top of %d, limit %d", ErrTooLarge, n, u.stats.Bytes, u.opts.Bytes)
	}
	u.stats.Bytes += n
	return nil
}

// checkGlobal refuses what archive/tar would leave unapplied: records for all
// later entries. `git archive` writes a comment there.
func checkGlobal(records map[string]string) error {
	for key := range records {
		if key != "comment" {
			return fmt.Errorf("%w: global PAX record %s", ErrUnsupported, quote(key))
		}
	}
	return nil
}
