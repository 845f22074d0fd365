package main

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// page is the results as Markdown: packages down, layouts across. Rows that
// have none are there too.
func page(rows []row, results []result) []byte {
	var packages []string
	var all []layout
	kernels := map[string]string{}
	cells := map[layout]map[string]string{}
	for _, r := range rows {
		if !slices.Contains(packages, r.pkg) {
			packages = append(packages, r.pkg)
		}
		if cells[r.layout] == nil {
			cells[r.layout] = map[string]string{}
			all = append(all, r.layout)
		}
	}
	for _, r := range results {
		cells[r.layout][r.pkg] = r.cell()
		if r.Release != "" {
			kernels[r.kernel] = r.Release
		}
	}
	var w bytes.Buffer
	fmt.Fprintf(&w, "# Tests in guests\n\nWritten by `make test-matrix` on %s with %s. A cell is the number of tests that passed;\n`user` is an ordinary user with a delegated cgroup. How to run one of these guests is in [vm.md](vm.md).\n%d of %d rows have run, each a guest; `make test-matrix MATRIXFLAGS=-resume` runs those that have not passed.\n\n", time.Now().UTC().Format(time.DateOnly), runtime.Version(), len(results), len(rows))
	head, line := "| package", "|---"
	for _, l := range all {
		head, line = head+" | "+l.String(), line+"|---"
	}
	fmt.Fprintf(&w, "%s |\n%s|\n", head, line)
	for _, p := range packages {
		fmt.Fprintf(&w, "| %s", p)
		for _, l := range all {
			cell, ok := cells[l][p]
			switch {
			case !ok && !slices.Contains(rows, row{layout: l, pkg: p}):
				cell = "as the first"
			case !ok:
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
	versions(&w, results)
	notes(&w, results)
	return w.Bytes()
}

// versions say what each row is a result of: after a fix only those run again
// that it touches.
func versions(w *bytes.Buffer, results []result) {
	rows := map[string][]string{}
	var order []string
	for _, r := range results {
		if rows[r.Version] == nil {
			order = append(order, r.Version)
		}
		rows[r.Version] = append(rows[r.Version], r.String()+" "+r.pkg)
	}
	slices.SortStableFunc(order, func(a, b string) int { return len(rows[b]) - len(rows[a]) })
	fmt.Fprintf(w, "\n| sandboxd | rows |\n|---|---|\n")
	for i, version := range order {
		which := fmt.Sprint(len(rows[version]))
		if i > 0 {
			which += ": " + strings.Join(rows[version], ", ")
		}
		fmt.Fprintf(w, "| %s | %s |\n", version, which)
	}
}

// cell is a result in a word or two.
func (r *result) cell() string {
	switch {
	case r.OK:
		return fmt.Sprint(r.Passed)
	case len(r.Failed) > 0:
		return fmt.Sprintf("**%d failed**, %d", len(r.Failed), r.Passed)
	}
	return "**failed**"
}

// notes list what failed, and what did not apply where.
func notes(w *bytes.Buffer, results []result) {
	where := map[string][]string{}
	var order []string
	failed := false
	for _, r := range results {
		if !r.OK {
			if !failed {
				fmt.Fprintf(w, "\n## What failed\n\n")
			}
			failed = true
			fmt.Fprintf(w, "- %s, %s: %s\n", r.pkg, r.layout, r.Why)
		}
		for _, why := range r.Apart {
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
