// Command matrix runs tests in guests, on several kernels and cgroup layouts,
// as root and as an ordinary user, and prints what became of them as a table.
//
//	matrix -vmrun ".cache/vmrun --smp 2 …" smoke             # the slice for every change
//	matrix -vmrun "…" -markdown docs/vm-matrix.md all        # every package in every layout
//	matrix -vmrun "…" -only "6.12 v2 user|sandbox" all       # the rows whose name matches
//
// Each row is a guest of its own, and two run at a time. What rows that fail
// said is kept below .cache/matrix. It exits 1 if any failed.
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

const dir = ".cache/matrix" // of test binaries, and of what failing rows said

func main() {
	vmrun := flag.String("vmrun", ".cache/vmrun", "the command that runs a program in a guest, with flags")
	workers := flag.Int("j", 2, "how many guests run at a time")
	markdown := flag.String("markdown", "", "write the table to this file")
	only := flag.String("only", "", "run the rows whose \"KERNEL CGROUP USER PACKAGE\" this regular expression matches")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := matrix(ctx, strings.Fields(*vmrun), *workers, *markdown, *only, flag.Arg(0))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		code = 1
	}
	os.Exit(code)
}

func matrix(ctx context.Context, vmrun []string, workers int, markdown, only, which string) (code int, err error) {
	pick, err := regexp.Compile(only)
	if err != nil {
		return 0, fmt.Errorf("-only: %w", err)
	}
	var rows []row
	switch which {
	case "smoke":
		rows = smoke
	case "all":
		packages, err := testedPackages(ctx)
		if err != nil {
			return 0, err
		}
		rows = everything(packages)
	default:
		return 0, fmt.Errorf("%q: want smoke or all", which)
	}
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !pick.MatchString(r.String() + " " + r.pkg) })
	if len(rows) == 0 {
		return 0, fmt.Errorf("no row matches %q", only)
	}
	if err := build(ctx, rows); err != nil {
		return 0, err
	}
	begin := time.Now()
	results := runAll(ctx, vmrun, workers, rows)
	failed := 0
	for _, r := range results {
		if !r.ok {
			failed++
		}
	}
	fmt.Printf("matrix: %d rows, %d failed, %s\n", len(rows), failed, time.Since(begin).Round(time.Second))
	if ctx.Err() != nil {
		return 1, context.Cause(ctx)
	}
	if markdown != "" {
		text, err := page(ctx, results, only)
		if err == nil {
			err = os.WriteFile(markdown, text, 0o644)
		}
		if err != nil {
			return 1, err
		}
	}
	return min(failed, 1), nil
}

// testedPackages are those with tests that can run in a guest: the rest of
// integration runs guests itself, and internal looks at the sources.
func testedPackages(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var packages []string
	for p := range strings.FieldsSeq(string(out)) {
		p = strings.TrimPrefix(p, "sandboxd/")
		if top, below, _ := strings.Cut(p, "/"); top != "vm" && top != "internal" && (top != "integration" || below == "") {
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

// runAll runs the rows in order, some at a time, and prints each as it ends.
func runAll(ctx context.Context, vmrun []string, workers int, rows []row) []result {
	results := make([]result, len(rows))
	next := make(chan int)
	var print sync.Mutex
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range next {
				results[i] = run(ctx, vmrun, rows[i])
				print.Lock()
				results[i].print()
				print.Unlock()
			}
		})
	}
	for i := range rows {
		if ctx.Err() == nil {
			next <- i
		}
	}
	close(next)
	group.Wait()
	return results
}
