package repo

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// source is a parsed Go file of the repository.
type source struct {
	path string
	file *ast.File
	fset *token.FileSet
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

func sources(t *testing.T) []source {
	t.Helper()
	fset := token.NewFileSet()
	var all []source
	for _, f := range files(t) {
		if path.Ext(f) != ".go" || strings.Contains(f, "testdata/") {
			continue
		}
		file, err := parser.ParseFile(fset, f, read(t, f), parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, source{f, file, fset})
	}
	return all
}

// Every package says what it is for, shows it once, and says what it is not for.
func TestPackageComments(t *testing.T) {
	type facts struct {
		doc     string
		example bool
	}
	packages := map[string]*facts{}
	for _, s := range sources(t) {
		dir := path.Dir(s.path)
		f := packages[dir]
		if f == nil {
			f = &facts{}
			packages[dir] = f
		}
		if s.file.Doc != nil {
			f.doc += s.file.Doc.Text()
		}
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			f.example = f.example || ok && s.test() && strings.HasPrefix(fn.Name.Name, "Example")
		}
	}
	for dir, f := range packages {
		text := strings.TrimSpace(f.doc)
		if strings.Count(text, "\n") < 2 {
			t.Errorf("%s: the package comment must say what the package is for, in three lines or more; it is %q", dir, text)
			continue
		}
		var p comment.Parser
		shown := slices.ContainsFunc(p.Parse(text).Content, func(b comment.Block) bool { _, code := b.(*comment.Code); return code })
		if !shown && !f.example {
			t.Errorf("%s: the package comment has no indented example, and no Example function stands in for it", dir)
		}
		if !strings.Contains(strings.ToLower(text), "non-goal") {
			t.Errorf("%s: the package comment does not say what its non-goals are", dir)
		}
	}
}

// known are methods of interfaces of the standard library that say nothing of their own.
var known = map[string]bool{"Error": true, "Unwrap": true, "Is": true, "String": true}

// Every exported name says what it means. A comment on a group speaks for its members.
func TestExportedComments(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || ast.IsGenerated(s.file) || s.file.Name.Name == "main" {
			continue
		}
		missing := func(name *ast.Ident) {
			t.Errorf("%s: exported %s has no comment", s.fset.Position(name.Pos()), name.Name)
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || receiver(d).IsExported() && !known[d.Name.Name]) {
					missing(d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
							missing(spec.Name)
						}
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							if name.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
								missing(name)
							}
						}
					}
				}
			}
		}
	}
}

// receiver is the type that a method belongs to.
func receiver(d *ast.FuncDecl) *ast.Ident {
	for e := d.Recv.List[0].Type; ; {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x
		}
	}
}

// A test that cannot run goes through hosttest.Lack, which fails where everything
// must work. What remains has nothing to do with what is installed, and says so.
func TestSkips(t *testing.T) {
	for _, s := range sources(t) {
		if s.path == "internal/hosttest/hosttest.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if len(call.Args) > 0 {
				if why, ok := call.Args[0].(*ast.BasicLit); ok && strings.HasPrefix(why.Value, `"does not apply: `) {
					return true
				}
			}
			t.Errorf("%s: a skip that is neither by hosttest.Lack nor says \"does not apply: \" and why", s.fset.Position(call.Pos()))
			return true
		})
	}
}
