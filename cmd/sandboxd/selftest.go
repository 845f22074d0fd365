package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"sandboxd/cmd/sandboxd/internal/abuse"
)

const selftestUsage = `Usage: sandboxd selftest [flags]

Attacks the sandboxes of this host from inside, by some two hundred programs that
are all in this binary, and compares what happens with what each backend is
declared to do. What they are, and what is declared: docs/abuse.md.

  --backend LIST  backends to attack (default: all that work here but microvm,
                  which takes half an hour)
  --only LIST     classes or cases, such as network,filesystem/chroot
  --control       also run each attack without the wall, to show that it can
                  succeed: in throw-away namespaces, or in a sandbox opened by an
                  option. Not for a host that others depend on.
  --neighbour     also measure an actor beside each resource bomb
  --list          print the cases as docs/abuse.md has them, and run none
  --json          print the result as JSON

Exit code: 0 everything as declared; 1 a surprise: an attack got through, or was
stopped otherwise than declared; 125 the suite could not run.
`

// selftest is `sandboxd selftest`.
func selftest(args []string, _ io.Reader, out, errs io.Writer) int {
	if len(args) > 1 && args[0] == abuse.AttackArg {
		return abuse.Serve(args[1:])
	}
	var o abuse.Options
	f := flag.NewFlagSet("selftest", flag.ContinueOnError)
	list := func(to *[]string) func(string) error {
		return func(v string) error {
			if v == "" {
				return errEmpty
			}
			*to = strings.Split(v, ",")
			return nil
		}
	}
	f.Func("backend", "", list(&o.Backends))
	f.Func("only", "", list(&o.Only))
	f.BoolVar(&o.Control, "control", false, "")
	f.BoolVar(&o.Victim, "neighbour", false, "")
	page := f.Bool("list", false, "")
	asJSON := f.Bool("json", false, "")
	if code, goOn := parseAlone(f, selftestUsage, args, out, errs); !goOn {
		return code
	}
	if *page {
		if err := abuse.Page(out); err != nil {
			fmt.Fprintf(errs, "sandboxd: selftest: %v\n", err)
			return exitOurs
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	matrix, err := attackAll(ctx, o)
	if err == nil {
		print := matrix.Text
		if *asJSON {
			print = matrix.JSON
		}
		err = print(out)
	}
	switch {
	case err != nil:
		fmt.Fprintf(errs, "sandboxd: selftest: %v\n", err)
		return exitOurs
	case len(matrix.Surprises()) > 0:
		return 1
	}
	return 0
}

func attackAll(ctx context.Context, o abuse.Options) (*abuse.Matrix, error) {
	suite, err := abuse.Open(o)
	if err != nil {
		return nil, err
	}
	matrix, err := suite.Run(ctx)
	return matrix, errors.Join(err, suite.Close())
}
