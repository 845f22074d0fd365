package main

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Version is set by the linker: -ldflags "-X main.Version=…".
var Version = "devel"

const versionUsage = "Usage: sandboxd version\n\nPrints the version, and what it was built from and by.\n"

// version is `sandboxd version`.
func version(args []string, _ io.Reader, out, errs io.Writer) int {
	if code, goOn := parseAlone(flag.NewFlagSet("version", flag.ContinueOnError), versionUsage, args, out, errs); !goOn {
		return code
	}
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	fmt.Fprintf(out, "sandboxd %s%s %s %s/%s\n", Version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return 0
}
