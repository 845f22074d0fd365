// Command conformance runs the behaviours that every backend must have
// (package spawn/spawntest) on each of them, as root and as an ordinary user,
// and prints what became of them as a table.
//
//	conformance spawn/process spawn/native spawn/wasm:root >docs/conformance.md
//
// What ends in ":root" runs as root only: its own tests know what a user takes.
// A behaviour passes, fails, or is declined with a reason that the table tells.
// It exits 1 if any failed, and needs root, to become somebody else.
//
// Non-goals: hosts other than this one (command matrix has guests).
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/spawntest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := conformance(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 1
	}
	os.Exit(code)
}

func conformance(ctx context.Context, packages []string, out io.Writer) (code int, err error) {
	if len(packages) == 0 {
		return 0, errors.New("want packages of backends, such as spawn/native")
	}
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("it runs the tests as root and as an ordinary user, and this is uid %d", os.Geteuid())
	}
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	var columns []column
	for _, p := range packages {
		p, rootOnly := strings.CutSuffix(p, ":root")
		program := filepath.Join(dir, path.Base(p))
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./"+p)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the tests of %s: %w\n%s", p, err, out)
		}
		uids := []int{0, spawntest.Ordinary}
		if rootOnly {
			uids = uids[:1]
		}
		for _, uid := range uids {
			c, err := run(ctx, p, program, uid)
			if err != nil {
				return 0, err
			}
			if c.failed() {
				code = 1
			}
			columns = append(columns, c)
		}
	}
	_, err = out.Write(page(columns))
	return code, err
}

// column is one backend as one user.
type column struct {
	backend, as string
	cells       []cell
}

// cell is one behaviour.
type cell struct{ name, verdict, why string }

func (c *column) failed() bool {
	return slices.ContainsFunc(c.cells, func(c cell) bool { return c.verdict == "FAIL" })
}

const suite = "TestConformance"

func run(ctx context.Context, pkg, program string, uid int) (column, error) {
	c := column{backend: path.Base(pkg), as: "root"}
	home, err := os.MkdirTemp("", "h")
	if err != nil {
		return c, err
	}
	defer os.RemoveAll(home)
	cmd := exec.CommandContext(ctx, program, "-test.v", "-test.run=^"+suite+"$", "-test.timeout=20m")
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Dir = pkg
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home)
	if err := errors.Join(os.Chmod(home, 0o755), os.Chown(home, uid, uid)); err != nil { // programs in it run as other users
		return c, err
	}
	if uid != 0 {
		c.as = "user"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	fmt.Fprintf(os.Stderr, "conformance: %s as %s\n", c.backend, c.as)
	out, err := cmd.CombinedOutput()
	if c.cells = cells(string(out)); len(c.cells) == 0 || err != nil && !c.failed() {
		return c, fmt.Errorf("%s as %s: %w\n%s", c.backend, c.as, cmp.Or(err, errors.New("no behaviour ran")), out)
	}
	if c.failed() {
		fmt.Fprintf(os.Stderr, "%s", out)
	}
	return c, nil
}

var (
	begins   = regexp.MustCompile(`^=== (?:RUN|NAME|CONT) +(\S+)$`)
	verdicts = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+)`)
	reasons  = regexp.MustCompile(`^ +\S+\.go:\d+: does not apply: (.*)$`)
)

// cells reads the output of a test program. A skip of the whole suite, as where
// the backend refuses a user by name, is a cell of that name.
func cells(out string) (all []cell) {
	why, now := map[string]string{}, ""
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if m := begins.FindStringSubmatch(line); m != nil {
			now = m[1]
		} else if m := reasons.FindStringSubmatch(line); m != nil {
			why[now] = m[1]
		} else if m := verdicts.FindStringSubmatch(line); m != nil {
			name, below := strings.CutPrefix(m[2], suite+"/")
			if !strings.Contains(name, "/") && (below || m[1] != "PASS") {
				all = append(all, cell{name, m[1], why[m[2]]})
			}
		}
	}
	return all
}

// page is the table as Markdown.
func page(columns []column) []byte {
	var names []string
	for _, c := range columns {
		for _, cell := range c.cells {
			if !slices.Contains(names, cell.name) && cell.name != suite {
				names = append(names, cell.name)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What every backend does\n\nWritten by `make conformance` on %s. Each row is a test of package `spawn/spawntest`, run on each backend as root and on\nsome as an ordinary user too, which the packages of the others do in part. A number is the reason why the backend declines it;\n`not run` means that its own tests show as much as they can of that, since each start takes seconds.\n\n| behaviour |", time.Now().UTC().Format(time.DateOnly))
	for _, c := range columns {
		fmt.Fprintf(&b, " %s %s |", c.backend, c.as)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	var why []string
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, c := range columns {
			i := slices.IndexFunc(c.cells, func(c cell) bool { return c.name == name })
			if i < 0 { // the whole suite was skipped, or ended before
				i = slices.IndexFunc(c.cells, func(c cell) bool { return c.name == suite })
			}
			switch {
			case i < 0:
				b.WriteString(" not run |")
			case c.cells[i].verdict == "PASS":
				b.WriteString(" yes |")
			case c.cells[i].verdict == "FAIL":
				b.WriteString(" **no** |")
			default:
				w := cmp.Or(c.cells[i].why, "skipped without a reason")
				if !slices.Contains(why, w) {
					why = append(why, w)
				}
				fmt.Fprintf(&b, " %d |", slices.Index(why, w)+1)
			}
		}
		b.WriteByte('\n')
	}
	if why != nil {
		b.WriteByte('\n')
	}
	for i, w := range why {
		fmt.Fprintf(&b, "%d. %s\n", i+1, w)
	}
	return []byte(b.String())
}
