// Package initramfs packs the first root of a guest: an archive in the
// kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst),
// and the kernel modules that it loads, in their order.
//
//	w := initramfs.NewWriter(file)
//	w.Add(initramfs.File{Path: "init", Mode: 0o755, Source: "/path/of/program"})
//	err := w.Close()
//
// Non-goals: compression (packing and unpacking would cost more than memory
// does), reading archives, more than one archive.
package initramfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// File is one entry. Its directories are made, unless they were added before.
type File struct {
	// Path in the archive, without a leading slash.
	Path string
	// Mode as st_mode has it (stat(2)); with no type it is a regular file.
	Mode uint32
	// UID and GID of the owner; zero is root.
	UID, GID int
	// Data of a regular file, or the target of a symbolic link.
	Data []byte
	// Source is the host's file whose content is taken instead of Data.
	Source string
	// Device number of a character device.
	Device uint64
}

// Writer writes an archive. The first error stays; Close returns it.
type Writer struct {
	w    *bufio.Writer
	err  error
	at   int64
	ino  uint32
	have map[string]bool
}

// NewWriter writes to w, in pieces of some size.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 1<<20), have: map[string]bool{".": true}}
}

// most is what the format's eight hexadecimal digits hold.
const most = 1<<32 - 1

// Add adds a file, with the directories above it. What was added before under
// the same path stays, the new one is skipped.
func (w *Writer) Add(f File) {
	if w.err != nil {
		return
	}
	f.Path = path.Clean(strings.TrimLeft(f.Path, "/"))
	if f.Path == ".." || strings.HasPrefix(f.Path, "../") || strings.ContainsRune(f.Path, 0) {
		w.err = fmt.Errorf("initramfs: %q is no path below the root", f.Path)
		return
	}
	if w.have[f.Path] {
		return
	}
	if dir := path.Dir(f.Path); !w.have[dir] {
		w.Add(File{Path: dir, Mode: unix.S_IFDIR | 0o755})
	}
	w.have[f.Path] = true
	if f.Mode&unix.S_IFMT == 0 {
		f.Mode |= unix.S_IFREG
	}
	if w.err == nil {
		w.err = w.add(f)
	}
}

func (w *Writer) add(f File) error {
	if f.Source == "" {
		return w.entry(f, int64(len(f.Data)), bytes.NewReader(f.Data))
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("initramfs: %s is no regular file", f.Source)
	}
	return w.entry(f, st.Size(), src)
}

func (w *Writer) entry(f File, size int64, content io.Reader) error {
	if size > most {
		return fmt.Errorf("initramfs: %s has %d bytes, 4 GiB is the most: put it on a disk", f.Path, size)
	}
	w.ino++
	w.printf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		w.ino, f.Mode, f.UID, f.GID, 1, 0, size, 0, 0, unix.Major(f.Device), unix.Minor(f.Device), len(f.Path)+1, 0, f.Path)
	w.pad()
	n, err := io.Copy(w.w, io.LimitReader(content, size))
	w.at += n
	if err == nil && n != size {
		err = errors.New("it shrank while it was read")
	}
	if err != nil {
		return fmt.Errorf("initramfs: %s: %w", f.Path, err)
	}
	w.pad()
	return w.err
}

// Close writes the end of the archive; the file below stays open.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = w.entry(File{Path: "TRAILER!!!"}, 0, strings.NewReader(""))
	}
	if err := w.w.Flush(); w.err == nil && err != nil {
		w.err = fmt.Errorf("initramfs: %w", err)
	}
	return w.err
}

func (w *Writer) printf(format string, args ...any) {
	n, err := fmt.Fprintf(w.w, format, args...)
	w.at += int64(n)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("initramfs: %w", err)
	}
}

// pad aligns to four bytes.
func (w *Writer) pad() {
	for w.at%4 != 0 {
		w.printf("\x00")
	}
}
