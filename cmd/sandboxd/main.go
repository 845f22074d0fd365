// Command sandboxd runs programs that must not be trusted, each in a sandbox
// of its own, and tells why each of them ended.
//
//	sandboxd run --memory 64m --timeout 5s -- python3 untrusted.py
//
// This package reads flags and prints; every decision is package sandbox's.
// Non-goals: a daemon (run needs none), images from registries.
//
// The runtime need not read the cgroup's CPU quota at every start: sandboxd
// waits more than it computes.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// exitOurs is the code of a failure that is sandboxd's own, as docker has it.
// All other codes come with the report.
const exitOurs = 125

// verb is one subcommand. run returns the exit code.
type verb struct {
	name, summary string
	run           func(args []string, in io.Reader, out, errs io.Writer) int
}

func verbs() []verb {
	return []verb{
		{"run", "run one program in a sandbox", run},
		{"explain", "print what a run line would do, without doing it", explain},
		{"doctor", "say what this host can and cannot hold, and how to mend it", runDoctor},
		{"selftest", "attack this host's sandboxes, and see whether they hold", selftest},
		{"bench", "measure spawns beside other sandboxes on this host", benchmark},
		{"vm", "run a program, such as a test, in a virtual machine", virtual},
		{"version", "print the version", version},
	}
}

func main() {
	prefault()
	os.Exit(dispatch(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func dispatch(args []string, in io.Reader, out, errs io.Writer) int {
	if len(args) == 0 {
		usage(errs)
		return exitOurs
	}
	switch args[0] {
	case "help":
		if len(args) > 1 {
			return dispatch([]string{args[1], "--help"}, in, out, errs)
		}
		usage(out)
		return 0
	case "-h", "--help":
		usage(out)
		return 0
	case "--version":
		return version(nil, in, out, errs)
	}
	for _, v := range verbs() {
		if v.name == args[0] {
			return v.run(args[1:], in, out, errs)
		}
	}
	fmt.Fprintf(errs, "sandboxd: no such command: %q; see sandboxd help\n", args[0])
	return exitOurs
}

func usage(w io.Writer) {
	fmt.Fprint(w, "sandboxd runs programs that must not be trusted, each in a sandbox of its own.\n\nUsage: sandboxd COMMAND [flags]\n\nCommands:\n")
	for _, v := range verbs() {
		fmt.Fprintf(w, "  %-9s %s\n", v.name, v.summary)
	}
	fmt.Fprint(w, "\nTry: sandboxd run --memory 64m --timeout 5s -- python3 -c 'print(6*7)'\nFlags of a command: sandboxd COMMAND --help\n")
}

// errHelp ends flag parsing after --help has been printed.
var errHelp = errors.New("help was asked for")

// parseFlags reads the flags of a verb, named by its flag set.
func parseFlags(f *flag.FlagSet, usage string, args []string, out io.Writer) error {
	f.SetOutput(io.Discard)
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(out, usage)
		return errHelp
	}
	if err != nil {
		return fmt.Errorf("%w; see sandboxd %s --help", err, f.Name())
	}
	return nil
}

// parseAlone does so for a verb that takes nothing but flags. Unless it says
// to go on, code is the exit code.
func parseAlone(f *flag.FlagSet, usage string, args []string, out, errs io.Writer) (code int, goOn bool) {
	err := parseFlags(f, usage, args, out)
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q; see sandboxd %s --help", f.Arg(0), f.Name())
	}
	switch {
	case errors.Is(err, errHelp):
		return 0, false
	case err != nil:
		fmt.Fprintf(errs, "sandboxd: %s: %v\n", f.Name(), err)
		return exitOurs, false
	}
	return 0, true
}
