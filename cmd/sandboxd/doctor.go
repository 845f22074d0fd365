package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"sandboxd/cmd/sandboxd/internal/doctor"
)

const doctorUsage = `Usage: sandboxd doctor [--json]

Says what this host can and cannot hold, why that matters, and how to mend it.
It spawns a few tiny actors to find out.

Exit code: 0 if the default backend works here, 1 if not.
`

// runDoctor is `sandboxd doctor`.
func runDoctor(args []string, _ io.Reader, out, errs io.Writer) int {
	f := flag.NewFlagSet("doctor", flag.ContinueOnError)
	asJSON := f.Bool("json", false, "")
	if code, goOn := parseAlone(f, doctorUsage, args, out, errs); !goOn {
		return code
	}
	report := doctor.Judge(doctor.Observe(context.Background()))
	print := doctor.Text
	if *asJSON {
		print = doctor.JSON
	}
	if err := print(out, report); err != nil {
		fmt.Fprintf(errs, "sandboxd: doctor: print the report: %v\n", err)
		return exitOurs
	}
	if !report.Works {
		return 1
	}
	return 0
}
