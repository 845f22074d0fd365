package wasm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The directory of compiled modules has a file KEY.NAME for each.

// ours makes the directory where it is not there. One that others may write to is not used.
func ours(dir string) error {
	if dir == "" {
		return fs.ErrNotExist
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a directory that only this user may write to", dir)
	}
	return nil
}

// inDir is the path of key's file, "" if there is none.
func inDir(dir, key string) string {
	list, _ := os.ReadDir(dir)
	for _, d := range list {
		if strings.HasPrefix(d.Name(), key+".") {
			return filepath.Join(dir, d.Name())
		}
	}
	return ""
}

// fromDir opens what the directory has of key. It is the youngest from now on.
func fromDir(dir, key string) (f *os.File, name string, err error) {
	if err := ours(dir); err != nil {
		return nil, "", err
	}
	path := inDir(dir, key)
	if f, err = os.Open(path); err != nil {
		return nil, "", err
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	return f, filepath.Base(path)[len(key)+1:], nil
}

// toDir keeps a compiled module, and makes room for it. What cannot be kept is not.
func toDir(dir, key, name string, from io.Reader) {
	if ours(dir) != nil {
		return
	}
	to, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return
	}
	defer os.Remove(to.Name()) // where it has not its own name by then
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return
	}
	if old := inDir(dir, key); old != "" {
		_ = os.Remove(old)
	}
	if os.Rename(to.Name(), filepath.Join(dir, key+"."+name)) == nil {
		trim(dir, maxDir)
	}
}

// plain tells a name that runtimes give.
func plain(name string) bool {
	return name != "" && len(name) <= 128 && strings.Trim(name, "0123456789abcdef") == ""
}

// trim removes the oldest until the rest has at most so many bytes, and what a killed process has left.
func trim(dir string, most int64) {
	list, _ := os.ReadDir(dir)
	var files []os.FileInfo
	total := int64(0)
	for _, d := range list {
		st, err := d.Info()
		if err != nil {
			continue
		}
		if strings.HasPrefix(d.Name(), "new-") && time.Since(st.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(dir, d.Name()))
			continue
		}
		files = append(files, st)
		total += st.Size()
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= most {
			return
		}
		_ = os.Remove(filepath.Join(dir, f.Name()))
		total -= f.Size()
	}
}
