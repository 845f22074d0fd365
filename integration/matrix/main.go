// Command matrix runs tests in guests, on several kernels and cgroup layouts,
// as root and as an ordinary user, and prints what became of them as a table.
//
//	matrix -vmrun ".cache/vmrun --smp 2 …" smoke             # the slice for every change
//	matrix -vmrun "…" -markdown docs/vm-matrix.md all        # every package in every layout
//	matrix -vmrun "…" -only "6.12 v2 user|sandbox" all       # the rows whose name matches
//	matrix -vmrun "…" -resume all                            # the rows that have not passed
//
// Each row is a guest of its own, and two run at a time. What one says is in
// .cache/matrix while it runs, and stays there if it fails. With -markdown the
// results are kept beside that page: it shows every row's last one, and of
// which version it is. It exits 1 if any failed.
//
// Non-goals: what a guest is (package vm/vmrun), and what its tests need.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const dir = ".cache/matrix" // of test binaries, and what rows say

type options struct {
	vmrun    []string
	workers  int
	markdown string
	only     string
	resume   bool
}

func main() {
	var o options
	vmrun := flag.String("vmrun", ".cache/vmrun", "the command that runs a program in a guest, with flags")
	flag.IntVar(&o.workers, "j", 2, "how many guests run at a time")
	flag.StringVar(&o.markdown, "markdown", "", "write the table to this file")
	flag.StringVar(&o.only, "only", "", "run the rows whose \"KERNEL CGROUP USER PACKAGE\" this regular expression matches")
	flag.BoolVar(&o.resume, "resume", false, "leave out the rows that have passed")
	flag.Parse()
	o.vmrun = strings.Fields(*vmrun)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := o.matrix(ctx, flag.Arg(0))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		code = 1
	}
	os.Exit(code)
}

func (o *options) matrix(ctx context.Context, which string) (code int, err error) {
	all, err := rowsOf(ctx, which)
	if err != nil {
		return 0, err
	}
	kept, err := openBook(o.results())
	if err != nil {
		return 0, err
	}
	rows, err := o.pick(all, kept)
	if err != nil {
		return 0, err
	}
	version, err := describe(ctx, o)
	if err != nil {
		return 0, err
	}
	if err := build(ctx, rows); err != nil {
		return 0, err
	}
	begin := time.Now()
	failed := runAll(ctx, o, version, rows, kept)
	fmt.Printf("matrix: %d rows, %d failed, %s\n", len(rows), failed, time.Since(begin).Round(time.Second))
	if o.markdown != "" {
		if err := os.WriteFile(o.markdown, page(all, kept.of(all)), 0o644); err != nil {
			return 1, err
		}
	}
	if ctx.Err() != nil {
		return 1, context.Cause(ctx)
	}
	return min(failed, 1), nil
}

// results is the file beside the page; "" without one.
func (o *options) results() string {
	if o.markdown == "" {
		return ""
	}
	return strings.TrimSuffix(o.markdown, ".md") + ".json"
}

func rowsOf(ctx context.Context, which string) ([]row, error) {
	switch which {
	case "smoke":
		return smoke, nil
	case "all":
		packages, err := testedPackages(ctx)
		return everything(packages), err
	}
	return nil, fmt.Errorf("%q: want smoke or all", which)
}

// pick are the rows that are to run.
func (o *options) pick(all []row, kept *book) ([]row, error) {
	match, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	rows := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return !match.MatchString(r.String() + " " + r.pkg) })
	if len(rows) == 0 {
		return nil, fmt.Errorf("no row matches %q", o.only)
	}
	if o.resume {
		rows = kept.pending(rows)
	}
	return rows, nil
}

// testedPackages are those with tests that can run in a guest: the rest of
// integration is tools and guests itself, as are machines, and internal looks at the sources.
func testedPackages(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var packages []string
	for p := range strings.FieldsSeq(string(out)) {
		p = strings.TrimPrefix(p, "sandboxd/")
		if top, below, _ := strings.Cut(p, "/"); top != "vm" && top != "internal" && p != "spawn/microvm" && (top != "integration" || below == "" || below == "abuse") {
			packages = append(packages, p)
		}
	}
	return packages, nil
}

func binary(pkg string) string { return filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test") }

func build(ctx context.Context, rows []row) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	built := map[string]bool{}
	for _, r := range rows {
		if built[r.pkg] {
			continue
		}
		built[r.pkg] = true
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary(r.pkg), "./"+r.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the tests of %s: %w\n%s", r.pkg, err, out)
		}
	}
	return nil
}

// runAll runs the rows in order, some at a time, prints and keeps each as it
// ends, and says how many failed.
func runAll(ctx context.Context, o *options, version string, rows []row, kept *book) (failed int) {
	next := make(chan row)
	var one sync.Mutex
	var group sync.WaitGroup
	for range o.workers {
		group.Go(func() {
			for r := range next {
				res := run(ctx, o.vmrun, r)
				res.Version = version
				one.Lock()
				if ctx.Err() == nil { // it ended by itself
					if err := kept.put(&res); err != nil {
						res.OK, res.Why = false, strings.TrimPrefix(res.Why+"; "+err.Error(), "; ")
					}
				}
				if !res.OK {
					failed++
				}
				res.print()
				one.Unlock()
			}
		})
	}
	for _, r := range rows {
		if ctx.Err() == nil {
			next <- r
		}
	}
	close(next)
	group.Wait()
	return failed
}
