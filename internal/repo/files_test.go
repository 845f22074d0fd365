package repo

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// forbidden is what no file may contain. The words are cut in two here, so
// that this file does not contain them either.
var forbidden = map[string]string{
	"/wo" + "rk/":          "a path of one machine",
	"/ro" + "ot/go":        "a path of one machine",
	"/tmp/ba" + "sh_":      "a path of one machine",
	"pkg." + "dev":         "a registry's host: take it from the environment",
	"artifact" + "registr": "a registry's host: take it from the environment",
	"proxy.go" + "lang":    "a registry's host: take it from the environment",
	"docker." + "io":       "a registry's host: take it from the user",
	"gcr." + "io":          "a registry's host: take it from the user",
	"ghcr." + "io":         "a registry's host: take it from the user",
	"quay." + "io":         "a registry's host: take it from the user",
	"deb.deb" + "ian.org":  "a mirror's host: take it from the host's configuration",
	"pypi." + "org":        "a registry's host: take it from the environment",
	"TO" + "DO":            "unfinished work: finish it, or write down as a limit what it means for users",
	"FIX" + "ME":           "unfinished work: finish it, or write down as a limit what it means for users",
}

func TestForbiddenStrings(t *testing.T) {
	for _, f := range files(t) {
		text := read(t, f)
		for word, why := range forbidden {
			if before, _, found := strings.Cut(text, word); found {
				t.Errorf("%s:%d: contains %q: %s", f, 1+strings.Count(before, "\n"), word, why)
			}
		}
	}
}

// longFiles may have more than maxLines lines, for the reason given.
var longFiles = map[string]string{}

const maxLines = 500

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// A file that outgrows a reader's patience is two files.
func TestFileLength(t *testing.T) {
	for _, f := range files(t) {
		switch path.Ext(f) {
		case ".go", ".c", ".h", ".sh", ".py":
		default:
			continue
		}
		text := read(t, f)
		lines := strings.Count(text, "\n")
		why, excused := longFiles[f]
		switch {
		case lines > maxLines && !excused && !generated.MatchString(text):
			t.Errorf("%s has %d lines, more than %d: split it where there is a second reason to change", f, lines, maxLines)
		case lines <= maxLines && excused:
			t.Errorf("%s has %d lines and needs its excuse no longer: %s", f, lines, why)
		}
	}
	for f := range longFiles {
		if _, err := os.Stat(filepath.Join(root, f)); err != nil {
			t.Errorf("excused file: %v", err)
		}
	}
}

var (
	fence   = regexp.MustCompile("(?ms)^ {0,3}```.*?^ {0,3}```[ \t]*$")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.*?) *$`)
)

// Links between documents lead somewhere.
func TestMarkdownLinks(t *testing.T) {
	for _, f := range files(t) {
		if path.Ext(f) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, f), ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := f
			if file != "" {
				target = path.Join(path.Dir(f), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: link %s: %v", f, m[1], err)
				continue
			}
			if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: link %s: %s has no such heading", f, m[1], target)
			}
		}
	}
}

// anchors are the names that forges give to the headings of a document.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, m[1])] = true
	}
	return all
}

var (
	claimed = regexp.MustCompile("`([a-z/]+)`|\\b(?:Test|Fuzz)[A-Z]\\w*")
	row     = regexp.MustCompile(`(?m)^\|.*\| (.*?) \|$`)
)

// Every claim of SECURITY.md names tests that there are, each after the package that has it.
func TestSecurityClaims(t *testing.T) {
	tests := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && s.test() && fn.Recv == nil {
				tests[path.Dir(s.path)+" "+fn.Name.Name] = true
			}
		}
	}
	rows := row.FindAllStringSubmatch(read(t, "SECURITY.md"), -1)
	if len(rows) < 10 {
		t.Fatalf("found %d rows", len(rows))
	}
	for _, r := range rows[1:] { // below the head
		for group := range strings.SplitSeq(r[1], ";") {
			var dirs, names []string
			for _, m := range claimed.FindAllStringSubmatch(group, -1) {
				if m[1] != "" {
					dirs = append(dirs, m[1])
				} else {
					names = append(names, m[0])
				}
			}
			if len(dirs) == 0 || len(names) == 0 {
				t.Errorf("%q names no package with a test of it", group)
			}
			for _, dir := range dirs {
				for _, name := range names {
					if !tests[dir+" "+name] {
						t.Errorf("there is no %s in %s", name, dir)
					}
				}
			}
		}
	}
}

func TestAnchors(t *testing.T) {
	got := anchors("# The `run` verb, in 2 steps\n```\n# not a heading\n```\n## A_b\n")
	if !got["the-run-verb-in-2-steps"] || !got["a_b"] || len(got) != 2 {
		t.Fatalf("got %v", got)
	}
}
