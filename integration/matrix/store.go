package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// book is a file of results, kept with the page that is made of it: all rows
// together take hours, so what was broken off goes on, on whatever machine, and
// after a fix the rows that it touches run alone. The page says which version each is of.
type book struct {
	file    string // "": nothing is kept
	results map[string]result
}

// openBook reads file, which need not be there.
func openBook(file string) (*book, error) {
	b := &book{file, map[string]result{}}
	if file == "" {
		return b, nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &b.results)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("stored results: %s: %w", file, err)
	}
	return b, nil
}

// put keeps a result.
func (b *book) put(r *result) error {
	b.results[r.name()] = *r
	if b.file == "" {
		return nil
	}
	var text bytes.Buffer
	for i, name := range slices.Sorted(maps.Keys(b.results)) { // a line each
		one, err := json.Marshal(b.results[name])
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s\n%q: %s", map[bool]string{true: "{", false: ","}[i == 0], name, one)
	}
	text.WriteString("\n}\n")
	if err := os.WriteFile(b.file+".new", text.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(b.file+".new", b.file)
}

// of are the results that rows have, in their order; rows that never ran have none.
func (b *book) of(rows []row) (results []result) {
	for _, r := range rows {
		if res, ok := b.results[r.name()]; ok {
			res.row = r
			results = append(results, res)
		}
	}
	return results
}

// pending are the rows that have not passed.
func (b *book) pending(rows []row) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return b.results[r.name()].OK })
}

// describe names the version of the sources, of which results are none.
func describe(ctx context.Context, o *options) (string, error) {
	version, err := exec.CommandContext(ctx, "git", "describe", "--always").Output()
	if err != nil {
		return "", fmt.Errorf("tell the version: %w", err)
	}
	args := []string{"status", "--porcelain", "--untracked-files=no", "--", "."}
	if o.markdown != "" {
		args = append(args, ":!"+o.markdown, ":!"+o.results())
	}
	changed, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return "", fmt.Errorf("tell the version: %w", err)
	}
	if len(changed) > 0 {
		return strings.TrimSpace(string(version)) + "-dirty", nil
	}
	return strings.TrimSpace(string(version)), nil
}
