package wasm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The oldest go first, and what was begun long ago and never finished.
func TestTrim(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	put := func(name string, age time.Duration) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		put(fmt.Sprint("key", i, ".name"), time.Duration(i)*time.Minute)
	}
	put("new-old", 2*time.Hour)
	put("new-now", 0)
	trim(dir, 400)
	list, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range list {
		names = append(names, filepath.Base(path))
	}
	if got := strings.Join(names, " "); got != "key0.name key1.name key2.name new-now" {
		t.Errorf("left are %s", got)
	}
}

// What a worker calls a compiled module becomes part of a path only if it cannot lead anywhere.
func TestPlain(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "0af": true, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false, "../x": false, "a/b": false, "a.b": false, "A": false, "a\x00": false,
	} {
		if plain(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// A module may grow to all memory but what its worker needs, and at least to half of it.
func TestPages(t *testing.T) {
	for memory, want := range map[int64]uint32{0: 1 << 16, -1: 1 << 16, 16 << 20: 128, 64 << 20: 512, 512 << 20: 480 * 16, 8 << 30: 1 << 16} {
		if got := pages(memory); got != want {
			t.Errorf("of %d bytes: %d pages, want %d", memory, got, want)
		}
	}
}
