package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// page is the results as Markdown: packages down, layouts across.
func page(ctx context.Context, results []result, only string) ([]byte, error) {
	version, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return nil, fmt.Errorf("tell the version: %w", err)
	}
	var packages []string
	var all []layout
	kernels := map[string]string{}
	cells := map[layout]map[string]string{}
	for _, r := range results {
		if !slices.Contains(packages, r.pkg) {
			packages = append(packages, r.pkg)
		}
		if cells[r.layout] == nil {
			cells[r.layout] = map[string]string{}
			all = append(all, r.layout)
		}
		cells[r.layout][r.pkg] = r.cell()
		if r.release != "" {
			kernels[r.kernel] = r.release
		}
	}
	var w bytes.Buffer
	fmt.Fprintf(&w, "# Tests in guests\n\nWritten by `make test-matrix` on %s: sandboxd %s, %s.\n", time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(version)), runtime.Version())
	fmt.Fprintf(&w, "A cell is the number of tests that passed; `user` is an ordinary user with a delegated cgroup.\nHow to run one of these guests is in [vm.md](vm.md).\n")
	if only != "" {
		fmt.Fprintf(&w, "Of all rows those that match `%s` ran.\n", only)
	}
	fmt.Fprintln(&w)
	head, line := "| package", "|---"
	for _, l := range all {
		head, line = head+" | "+l.String(), line+"|---"
	}
	fmt.Fprintf(&w, "%s |\n%s|\n", head, line)
	for _, p := range packages {
		fmt.Fprintf(&w, "| %s", p)
		for _, l := range all {
			cell, ok := cells[l][p]
			if !ok {
				cell = "not run"
			}
			fmt.Fprintf(&w, " | %s", cell)
		}
		fmt.Fprintln(&w, " |")
	}
	fmt.Fprintf(&w, "\n| kernel | release |\n|---|---|\n")
	for _, l := range all {
		if release, ok := kernels[l.kernel]; ok {
			fmt.Fprintf(&w, "| %s | %s |\n", l.kernel, release)
			delete(kernels, l.kernel)
		}
	}
	notes(&w, results)
	return w.Bytes(), nil
}

// cell is a result in a word or two.
func (r *result) cell() string {
	switch {
	case r.ok:
		return fmt.Sprint(r.passed)
	case len(r.failed) > 0:
		return fmt.Sprintf("**%d failed**, %d", len(r.failed), r.passed)
	}
	return "**failed**"
}

// notes list what failed, and what did not apply where.
func notes(w *bytes.Buffer, results []result) {
	where := map[string][]string{}
	var order []string
	failed := false
	for _, r := range results {
		if !r.ok {
			if !failed {
				fmt.Fprintf(w, "\n## What failed\n\n")
			}
			failed = true
			fmt.Fprintf(w, "- %s, %s: %s\n", r.pkg, r.layout, r.why)
		}
		for _, why := range r.apart {
			why = uids.ReplaceAllString(why, "uid N")
			if where[why] == nil {
				order = append(order, why)
			}
			if !slices.Contains(where[why], r.layout.String()) {
				where[why] = append(where[why], r.layout.String())
			}
		}
	}
	if len(order) > 0 {
		fmt.Fprintf(w, "\n## What does not apply\n\nSome tests, or parts of them, say so:\n\n| why | where |\n|---|---|\n")
		for _, why := range order {
			fmt.Fprintf(w, "| %s | %s |\n", strings.ReplaceAll(why, "|", "\\|"), strings.Join(where[why], ", "))
		}
	}
}
