package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Results are kept from one run to the next, because all rows together take
// hours: what was broken off goes on, and after a fix the rows that it touches
// run alone. The page says which version each is of.

func (r row) file() string { return filepath.Join(dir, r.name()+".json") }

// store keeps a result of a whole package; of a slice of one there is no page.
func (r *result) store() error {
	if r.run != "" {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.file()+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(r.file()+".new", r.file())
}

// stored are the results that rows have, in their order; rows that never ran
// have none.
func stored(rows []row) (results []result, err error) {
	for _, r := range rows {
		b, err := os.ReadFile(r.file())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		res := result{row: r}
		if err == nil {
			err = json.Unmarshal(b, &res)
		}
		if err != nil {
			return nil, fmt.Errorf("stored result: %s: %w", r.file(), err)
		}
		results = append(results, res)
	}
	return results, nil
}

// forget removes the results of rows.
func forget(rows []row) error {
	for _, r := range rows {
		if err := os.Remove(r.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// pending are the rows that have not passed.
func pending(rows []row, results []result) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return slices.ContainsFunc(results, func(res result) bool { return res.row == r && res.OK })
	})
}

// describe names the version of the sources.
func describe(ctx context.Context) (string, error) {
	version, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "", fmt.Errorf("tell the version: %w", err)
	}
	return strings.TrimSpace(string(version)), nil
}
