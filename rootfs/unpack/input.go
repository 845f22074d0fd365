package unpack

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the history a zstd frame may ask us to keep, in bytes. It takes
// all levels up to `zstd --ultra -20`, but not -21, -22 and --long.
const maxWindow = 32 << 20

// input is the uncompressed archive, read through a budget:
//
//	src → source (context) → bufio → gzip or zstd → input (context, budget) → archive/tar
type input struct {
	ctx   context.Context
	src   io.Reader
	plain io.Reader
	zstd  *zstd.Decoder // nil unless in use
	left  int64         // budget
	ended bool          // plain is at its end
	err   error         // why reading failed, when it was not the archive's fault
}

func newInput(ctx context.Context, src io.Reader, budget int64) *input {
	return &input{ctx: ctx, src: src, left: budget}
}

// source is what a decompressor reads: frames without content must not hide a
// context that has ended.
type source struct{ *input }

func (s source) Read(p []byte) (int, error) {
	if s.err == nil {
		s.err = context.Cause(s.ctx)
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.src.Read(p)
	if err != nil && err != io.EOF { // io.Reader's contract: not wrapped
		s.err = err
	}
	return n, err
}

// open looks at the first bytes and sets up the decompressor.
func (in *input) open() (err error) {
	br := bufio.NewReaderSize(source{in}, 64<<10)
	magic, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return err
	}
	has := func(prefix string) bool { return strings.HasPrefix(string(magic), prefix) }
	switch {
	case has("\x1f\x8b"):
		in.plain, err = gzip.NewReader(br)
	// A skippable frame, type 0 to 15, may come first: pzstd, zstd:chunked.
	case has("\x28\xb5\x2f\xfd"), len(magic) > 3 && magic[0]&0xf0 == 0x50 && string(magic[1:4]) == "\x2a\x4d\x18":
		// One block at a time: no goroutines, and no more memory than a window.
		in.zstd, err = zstd.NewReader(br, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		in.plain = in.zstd
	case has("\xfd7zXZ\x00"), has("BZh"), has("\x04\x22\x4d\x18"):
		return fmt.Errorf("%w: compressed with xz, bzip2 or lz4; recompress it with zstd or gzip", ErrUnsupported)
	default:
		in.plain = br
	}
	return err
}

func (in *input) close() {
	if in.zstd != nil {
		in.zstd.Close()
	}
}

// Read gives the uncompressed archive. A little compressed data is much
// uncompressed data, so that the context is looked at here as well.
func (in *input) Read(p []byte) (int, error) {
	if in.err == nil {
		in.err = context.Cause(in.ctx)
	}
	if in.err != nil {
		return 0, in.err
	}
	if in.left <= 0 {
		in.err = fmt.Errorf("%w: headers, padding and contents together", ErrTooLarge)
		return 0, in.err
	}
	if int64(len(p)) > in.left {
		p = p[:in.left]
	}
	n, err := in.plain.Read(p)
	in.left -= int64(n)
	if err == io.EOF {
		if n > 0 {
			return n, nil // the end is told by the next call
		}
		in.ended = true
	}
	return n, err
}

// finish is called when archive/tar sees no more entries. It wants the end
// marker, which archive/tar does not insist on, and then nothing but zeros:
// what tar programs disagree about must not be there. Reading to the end also
// checks the checksums of the compression.
func (in *input) finish(buf []byte) error {
	if in.ended {
		return fmt.Errorf("%w: no end marker (two blocks of zeros)", ErrTruncated)
	}
	for {
		n, err := in.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return fmt.Errorf("%w: data after the end marker; archives cannot be concatenated", ErrFormat)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// explain puts an error of reading under the sentinel it belongs to.
func (in *input) explain(err error) error {
	switch {
	case in.err != nil:
		return fmt.Errorf("reading the archive: %w", in.err)
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrFormat), errors.Is(err, ErrTruncated):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: zstd window above %d MiB; recompress it without --long and --ultra", ErrUnsupported, maxWindow>>20)
	}
	return fmt.Errorf("%w: %w", ErrFormat, err)
}
