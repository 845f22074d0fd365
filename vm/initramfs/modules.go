package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is a kernel module, uncompressed.
type Module struct {
	Name string
	Data []byte
}

// Modules finds modules below dir (/lib/modules/RELEASE) with all that they
// depend on, in the order to load them. A name that dir has no module of is
// taken for one that the kernel has built in, and is skipped: the guest fails
// on what is really missing.
//
// The dependencies are read from the modules themselves (their section
// .modinfo): Debian's packages come without modules.dep.
func Modules(dir string, names ...string) ([]Module, error) {
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if name, _, ok := strings.Cut(d.Name(), ".ko"); ok {
				files[underscored(name)] = path
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	var order []Module
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = underscored(name)
		path := files[name]
		if seen[name] || path == "" {
			return nil
		}
		seen[name] = true
		data, err := read(path)
		if err != nil {
			return fmt.Errorf("module %s: %w", path, err)
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("module %s: %w", path, err)
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, Module{name, data})
		return nil
	}
	for _, n := range names {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// underscored is a module's name as the kernel spells it.
func underscored(name string) string { return strings.ReplaceAll(name, "-", "_") }

// read unpacks with the system's programs: the libraries that could would be
// initialised at every start of whoever links this package.
func read(path string) ([]byte, error) {
	var unpack, pkg string
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		unpack, pkg = "xz", "xz-utils"
	case ".zst":
		unpack, pkg = "zstd", "zstd"
	case ".gz":
		unpack, pkg = "gzip", "gzip"
	default:
		return nil, fmt.Errorf("compressed in a way unknown here: %s", filepath.Ext(path))
	}
	data, err := exec.Command(unpack, "-dc", path).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("compressed, and there is no %s here: install the package %s", unpack, pkg)
	}
	return data, err
}

// dependencies are the modules that must be loaded before this one.
func dependencies(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var needs []string
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch key {
		case "depends":
			needs = append(needs, strings.Split(value, ",")...)
		case "softdep":
			if pre, ok := strings.CutPrefix(value, "pre:"); ok {
				pre, _, _ = strings.Cut(pre, "post:")
				needs = append(needs, strings.Fields(pre)...)
			}
		}
	}
	return slices.DeleteFunc(needs, func(s string) bool { return s == "" }), nil
}
