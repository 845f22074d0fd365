package debian

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sums is a file of every set: checksums of its files, as sha256sum(1) has them.
const sums = "sums"

func writeSums(root string) error {
	f, err := os.OpenFile(filepath.Join(root, sums), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == f.Name() {
			return err
		}
		sum, err := digest(path)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s  %s\n", sum, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	return errors.Join(err, w.Flush(), f.Close())
}

// Verify reads everything that was unpacked, some hundred MB, and says what is
// no longer what it was: for when a guest does not boot.
func (c Cache) Verify() error {
	lists, err := filepath.Glob(filepath.Join(c.Dir, "*", sums))
	if err != nil {
		return err
	}
	for _, list := range lists {
		dir := filepath.Dir(list)
		b, err := os.ReadFile(list)
		if err != nil {
			return fmt.Errorf("vm cache: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			want, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
			got, err := digest(filepath.Join(dir, path))
			if err == nil && got != want {
				err = errors.New("its content has changed")
			}
			if err != nil {
				return fmt.Errorf("vm cache: %s is damaged: %s: %w; remove that directory, it is fetched again", dir, path, err)
			}
		}
	}
	return nil
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
