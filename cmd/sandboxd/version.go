package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Version is set by the linker: -ldflags "-X main.Version=…".
var Version = "devel"

func version(_ []string, _ io.Reader, out, _ io.Writer) int {
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
