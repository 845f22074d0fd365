// Command vmrun runs a program in a guest, as `sandboxd vm run` does, for
// tests of sandboxd that must not depend on a built sandboxd:
//
//	CGO_ENABLED=0 go test -exec "go run ./integration/vmrun" ./...
//
// Non-goals: everything else that sandboxd does.
package main

import (
	"fmt"
	"os"

	"sandboxd/vm/vmrun"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "guest" {
		fmt.Fprintln(os.Stderr, "vmrun:", vmrun.Guest())
		os.Exit(1)
	}
	os.Exit(vmrun.Main(os.Args[1:], "/proc/self/exe", []string{"guest"}, os.Stdin, os.Stdout, os.Stderr))
}
