package repo

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// licences are told apart by a phrase that only they have.
var licences = []struct{ name, phrase string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"MPL-2.0", "Mozilla Public License Version 2.0"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software"},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"BSD", "Redistribution and use in source and binary forms, with or without modification"},
}

// refused are licences whose text could hold one of the phrases above.
var refused = []string{"GNU GENERAL PUBLIC LICENSE", "GNU LESSER GENERAL PUBLIC", "GNU AFFERO", "Business Source License", "Server Side Public License", "Commons Clause"}

var (
	licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-].*)?$`)
	space       = regexp.MustCompile(`[\s*#/]+`)
)

// classify names a licence by its text, "" if it is not one of those allowed.
func classify(text string) string {
	text = space.ReplaceAllString(text, " ")
	for _, r := range refused {
		if strings.Contains(text, r) {
			return ""
		}
	}
	for _, l := range licences {
		if strings.Contains(text, l.phrase) {
			return l.name
		}
	}
	return ""
}

// legal returns the licence and notice files of a module, by name.
func legal(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, e := range entries {
		if licenceFile.MatchString(e.Name()) {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			texts[e.Name()] = string(b)
		}
	}
	return texts
}

// The licence of every module that the build or its tests use is one of those allowed.
func TestLicences(t *testing.T) {
	type mod struct{ Path, Version, Dir, Error string }
	all := list[mod](t, "", "mod", "download", "-json")
	for _, p := range linked(t) {
		if m := p.Module; m != nil && !ours(m.Path) {
			all = append(all, mod{Path: m.Path, Version: m.Version, Dir: m.Dir})
		}
	}
	for _, m := range all {
		if m.Error != "" {
			t.Fatalf("%s %s: %s", m.Path, m.Version, m.Error)
		}
		found := false
		for name, text := range legal(t, m.Dir) {
			if strings.HasPrefix(strings.ToLower(name), "notice") {
				continue
			}
			kind := classify(text)
			if kind == "" {
				t.Errorf("%s %s: %s is no licence that is allowed here", m.Path, m.Version, name)
			}
			found = true
		}
		if !found {
			t.Errorf("%s %s has no licence file", m.Path, m.Version)
		}
	}
}

func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		"  Apache License\n  Version 2.0, January 2004":                    "Apache-2.0",
		"GNU GENERAL PUBLIC LICENSE ... Permission is hereby granted, ...": "",
		"All rights reserved.": "",
		"# MIT\nPermission is hereby granted, free of charge, to\nany person obtaining a copy": "MIT",
	} {
		if got := classify(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// helper is the module of the one program that links libcontainer.
const helper = "cmd/sandboxd-container"

// linked are the packages of the helper and all that they import.
func linked(t *testing.T) []pkg {
	t.Helper()
	return list[pkg](t, "CGO_ENABLED=1", "list", "-C", helper, "-deps", "-tags", "netgo,osusergo", "-json=ImportPath,Module,Imports", "./...")
}

// Of the helper's packages one knows libcontainer, and none of the program's can.
func TestLibcontainer(t *testing.T) {
	oci := module + "/" + helper + "/internal/oci"
	seen := false
	for _, p := range linked(t) {
		for _, i := range p.Imports {
			if ours(p.ImportPath) && strings.HasPrefix(i, "github.com/opencontainers/") {
				seen = true
				if p.ImportPath != oci {
					t.Errorf("%s imports %s: only %s may, as its API promises nothing", p.ImportPath, i, oci)
				}
			}
		}
	}
	if !seen {
		t.Errorf("%s imports nothing of libcontainer, so this tested nothing", oci)
	}
	for _, m := range modFile(t, "go.mod").Require {
		if m.Path == "github.com/opencontainers/runc" {
			t.Errorf("go.mod requires %s, which only %s may", m.Path, helper)
		}
	}
}

// THIRD_PARTY carries the texts that the licences of what we distribute ask to
// be carried along: everything that the packages, not their tests, import.
func TestThirdParty(t *testing.T) {
	dirs := map[string]string{}
	for _, p := range append(list[pkg](t, "GOARCH=amd64", "list", "-deps", "-json=ImportPath,Module", "./..."), linked(t)...) {
		if p.Module != nil && !ours(p.Module.Path) {
			dirs[p.Module.Path+" "+p.Module.Version] = p.Module.Dir
		}
	}
	var b strings.Builder
	b.WriteString("sandboxd is licensed under the Apache License 2.0, see LICENSE. It contains, or is\n" +
		"generated from, the work of others, listed here with their licences. The Go standard\n" +
		"library, which every Go program contains, has the licence of golang.org/x/sys.\n" +
		"Written by `go test ./internal/repo -update`.\n")
	for _, m := range slices.Sorted(maps.Keys(dirs)) {
		texts := legal(t, dirs[m])
		if len(texts) == 0 {
			t.Errorf("%s has no licence file", m)
		}
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			fmt.Fprintf(&b, "\n%s\n%s, file %s\n%s\n\n%s", strings.Repeat("=", 80), m, name, strings.Repeat("=", 80), strings.TrimRight(texts[name], "\n")+"\n")
		}
	}
	derived(t, filepath.Join(root, "THIRD_PARTY"), b.String())
}

// goMod is what `go mod edit -json` says.
type goMod struct {
	Module                          struct{ Path string }
	Go                              string
	Toolchain                       string
	Require, Replace, Exclude, Tool []struct{ Path string }
}

func modFile(t *testing.T, rel string) goMod {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", filepath.Join(root, rel)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var m goMod
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// apart are the modules besides ours, by their folders: what they need is in nobody else's graph.
var apart = []string{"tools", runsc, "bench/grpc", helper}

// runsc is the module of a tool that wants a later language than ours.
const runsc = "tools/runsc"

// All modules agree on the language, and none binds its users to more: no
// toolchain, no tools, nothing replaced but, in the helper, this repository.
func TestGoMod(t *testing.T) {
	main := modFile(t, "go.mod")
	if main.Module.Path != module || !regexp.MustCompile(`^1\.\d+\.\d+$`).MatchString(main.Go) {
		t.Errorf("module %q is of go %q: want %q, and a release", main.Module.Path, main.Go, module)
	}
	all := []goMod{main}
	for _, dir := range apart {
		m := modFile(t, dir+"/go.mod")
		if m.Module.Path != module+"/"+dir || m.Go != main.Go && dir != runsc {
			t.Errorf("module %q in %s is of go %q: want %q", m.Module.Path, dir, m.Go, main.Go)
		}
		all = append(all, m)
	}
	if main.Toolchain != "" {
		t.Errorf("go.mod asks for toolchain %s: users pick theirs", main.Toolchain)
	}
	if len(main.Tool) > 0 {
		t.Errorf("go.mod has tools %v: they belong into tools/go.mod, out of the graph of our users", main.Tool)
	}
	for _, m := range all {
		replaced := 0
		if m.Module.Path == module+"/"+helper {
			replaced = 1
		}
		if len(m.Replace) != replaced || len(m.Exclude) > 0 || m.Toolchain != "" {
			t.Errorf("module %s replaces or excludes: %v %v", m.Module.Path, m.Replace, m.Exclude)
		}
	}
	t.Logf("go.mod asks for go %s, this is %s", main.Go, runtime.Version())
}

// Every module that we import ourselves has a row in docs/dependencies.md, and every row a module.
func TestDependencies(t *testing.T) {
	imported := map[string]bool{}
	modules := map[string]string{}
	for _, p := range append(list[pkg](t, "", "list", "-deps", "-test", "-json=ImportPath,Module,Imports", "./..."), linked(t)...) {
		if p.Module == nil {
			continue
		}
		path, _, _ := strings.Cut(p.ImportPath, " ") // a package compiled for a test is "path [test]"
		modules[path] = p.Module.Path
		if ours(p.Module.Path) {
			for _, i := range p.Imports {
				i, _, _ = strings.Cut(i, " ")
				imported[i] = true
			}
		}
	}
	direct := map[string]bool{}
	for i := range imported {
		if m := modules[i]; m != "" && !ours(m) {
			direct[m] = true
		}
	}
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		rows[m[1]] = true
	}
	for m := range direct {
		if !rows[m] {
			t.Errorf("%s is imported and has no row in docs/dependencies.md", m)
		}
	}
	elsewhere := map[string]bool{}
	for _, dir := range apart {
		for _, r := range modFile(t, dir+"/go.mod").Require {
			elsewhere[r.Path] = true
		}
	}
	for m := range rows {
		if !direct[m] && !elsewhere[m] {
			t.Errorf("docs/dependencies.md has a row for %s, which nothing imports", m)
		}
	}
}
