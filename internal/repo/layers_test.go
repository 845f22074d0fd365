package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// No package imports what its layer may not, on any machine that is supported.
func TestLayers(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		pkgs := list[pkg](t, "GOARCH="+arch, "list", "-deps", "-json=ImportPath,Standard,Deps,Imports,TestImports,XTestImports", "./...")
		std := map[string]bool{"C": true, "unsafe": true}
		for _, p := range pkgs {
			std[p.ImportPath] = p.Standard
		}
		for _, l := range layers {
			bound := 0
			for _, p := range pkgs {
				if !ours(p.ImportPath) || !l.binds(p.ImportPath) {
					continue
				}
				bound++
				imports := p.Imports
				if l.tests {
					imports = slices.Concat(imports, p.TestImports, p.XTestImports)
				}
				if l.deep {
					imports = p.Deps
				}
				for _, path := range slices.Compact(slices.Sorted(slices.Values(imports))) {
					// Test files import standard packages that -deps does not list.
					isStd := std[path] || !strings.Contains(strings.Split(path, "/")[0], ".") && !ours(path)
					if !l.allows(path, isStd) {
						t.Errorf("%s: %s imports %s, against layer %q: %s%s", arch, p.ImportPath, path, l.name, l.why, through(pkgs, p, path))
					}
				}
			}
			if bound == 0 {
				t.Errorf("layer %q binds no package: %q", l.name, l.in)
			}
		}
	}
}

// through names what brings an indirect import in.
func through(pkgs []pkg, p pkg, path string) string {
	var by []string
	for _, q := range pkgs {
		if slices.Contains(p.Deps, q.ImportPath) && slices.Contains(q.Imports, path) {
			by = append(by, q.ImportPath)
		}
	}
	if len(by) == 0 || slices.Contains(p.Imports, path) {
		return ""
	}
	return fmt.Sprintf(" (through %s)", strings.Join(by, ", "))
}

const (
	layersBegin = "      # Layer rules: written by `go test ./internal/repo -update` from internal/repo/rules_test.go: edit them there.\n"
	layersEnd   = "      # End of the layer rules.\n"
)

// golangci-lint enforces the same rules, so that editors show them.
func TestLintLayers(t *testing.T) {
	file := filepath.Join(root, ".golangci.yml")
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(have), layersBegin)
	_, tail, ok2 := strings.Cut(rest, layersEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marked block for the layer rules", file)
	}
	derived(t, file, head+layersBegin+depguard()+layersEnd+tail)
}

// depguard is the layers as a depguard configuration.
func depguard() string {
	var b strings.Builder
	b.WriteString("      rules:\n")
	for _, l := range layers {
		fmt.Fprintf(&b, "        %s:\n          list-mode: %s\n          files:\n", l.name, map[bool]string{true: "strict", false: "lax"}[l.only != nil])
		for _, p := range l.in {
			p, out := strings.CutPrefix(p, "!")
			top, tree := strings.CutSuffix(p, "...")
			star := map[bool]string{true: "**", false: "*"}[tree]
			fmt.Fprintf(&b, "            - %q\n", map[bool]string{true: "!"}[out]+filepath.Join("${config-path}", top, star+".go"))
		}
		if !l.tests {
			b.WriteString("            - \"!$test\"\n")
		}
		if l.only != nil {
			fmt.Fprintf(&b, "          allow: # %s\n            - $gostd\n", l.why)
			for _, p := range l.only {
				fmt.Fprintf(&b, "            - %s\n", p)
			}
		}
		if l.never != nil {
			b.WriteString("          deny:\n")
			desc := fmt.Sprintf("&%s %q", l.name, l.why)
			for _, p := range l.never {
				fmt.Fprintf(&b, "            - {pkg: %s, desc: %s}\n", p, desc)
				desc = "*" + l.name
			}
		}
	}
	return b.String()
}

// The matching itself, on what must and must not pass.
func TestLayerMatching(t *testing.T) {
	l := layer{in: []string{"spawn/...", "!spawn/plan", "ipc"}, only: []string{"sandboxd/spawn$", "golang.org/x/sys"}, never: []string{"net$"}}
	for pkg, want := range map[string]bool{
		"sandboxd/spawn": true, "sandboxd/spawn/native": true, "sandboxd/spawn/plan": false, "sandboxd/spawner": false,
		"sandboxd/ipc": true, "sandboxd/ipc/wire": false, "sandboxd": false,
	} {
		if l.binds(pkg) != want {
			t.Errorf("binds(%s) = %v", pkg, !want)
		}
	}
	for path, want := range map[string]bool{
		"net": false, "net/netip": true, "sandboxd/spawn": true, "sandboxd/spawn/native": false, "golang.org/x/sys/unix": true, "example.org/x": false,
	} {
		if l.allows(path, !strings.Contains(path, ".") && !ours(path)) != want {
			t.Errorf("allows(%s) = %v", path, !want)
		}
	}
}
