package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"sandboxd/sandbox"
	"sandboxd/spawn"
)

const explainUsage = `Usage: sandboxd explain [flags] [--] PROGRAM [ARG...]

Prints what ` + "`sandboxd run`" + ` with the same flags would do, as this user on this
host, without doing it: the limits and who enforces them, what would be missing,
and every step on the way to the program. Needs no privileges.

  --verbose             also the operands of each step
  --json                print it as JSON on stdout instead

All other flags are those of run: sandboxd run --help
`

// explain is `sandboxd explain`.
func explain(args []string, _ io.Reader, out, errs io.Writer) int {
	o, err := parseLine("explain", explainUsage, args, out)
	if errors.Is(err, errHelp) {
		return 0
	}
	var e *sandbox.Explanation
	if err == nil {
		o.spec.ReadBack = o.report != ""
		if o.terminal {
			o.spec.Terminal = &spawn.Winsize{Rows: 24, Cols: 80}
		}
		e, err = sandbox.Explain(o.spec, sandbox.Options{Only: &o.spec, ContainerHelper: o.helper, Runsc: o.runsc})
	}
	if err == nil {
		err = o.printExplanation(e, out)
	}
	if err != nil {
		fmt.Fprintf(errs, "sandboxd: explain: %v\n", err)
		return exitOurs
	}
	return 0
}

func (o *runOptions) printExplanation(e *sandbox.Explanation, out io.Writer) error {
	if o.json {
		return json.NewEncoder(out).Encode(e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q by the %s backend, root %s, network %s\n%s: %s\n", e.Argv, e.Backend, e.Root, e.Network, e.Backend, e.Choice.Why)
	for _, p := range e.Choice.Passed {
		fmt.Fprintf(&b, "not %s: %s\n", p.Backend, p.Reason)
	}
	b.WriteString("\nLimits\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, l := range e.Limits {
		value, by := l.Value, l.By
		if value == "" {
			value, by = "-", "-"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", l.Name, l.State, value, by)
	}
	_ = w.Flush() // into memory
	fmt.Fprint(&b, "\nMissing here\n")
	for _, m := range e.Missing {
		fmt.Fprintf(&b, "  %s: %s\n", m.What, m.Reason)
	}
	if len(e.Missing) == 0 {
		b.WriteString("  nothing\n")
	}
	for _, s := range e.Sections {
		fmt.Fprintf(&b, "\n%s: %s\n", s.Name, s.Runs)
		for i, step := range s.Steps {
			fmt.Fprintf(&b, "%4d  %-17s %s\n", i+1, step.Kind, step.Words())
			if o.verbose {
				for _, f := range step.Fields() {
					fmt.Fprintf(&b, "      %17s %s=%s\n", "", f.Name, f.Value)
				}
			}
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
