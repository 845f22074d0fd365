package main

import (
	"context"
	"fmt"
	"io"

	"sandboxd/spawn/microvm"
	"sandboxd/vm/vmrun"
)

const vmUsage = `Usage: sandboxd vm run [flags] -- PROGRAM [ARG...]
       sandboxd vm fetch

run runs a program, a Go test binary most often, in a virtual machine of its own;
see sandboxd vm run --help. fetch puts into the cache what run --backend microvm
takes: QEMU and a kernel, once.
`

// virtual is `sandboxd vm`. What a guest's kernel starts is this program again,
// with the arguments of vmGuest.
func virtual(args []string, in io.Reader, out, errs io.Writer) int {
	switch {
	case len(args) == 0:
		fmt.Fprint(errs, vmUsage)
		return exitOurs
	case args[0] == "run":
		return vmrun.Main(args[1:], "/proc/self/exe", vmGuest, in, out, errs)
	case args[0] == "fetch" && len(args) == 1:
		if err := microvm.Fetch(context.Background(), errs); err != nil {
			fmt.Fprintf(errs, "sandboxd: vm fetch: %v\n", err)
			return exitOurs
		}
		return 0
	case args[0] == "monitor":
		return microvm.Monitor()
	case args[0] == "microvm":
		fmt.Fprintf(errs, "sandboxd: %v\n", microvm.Guest())
		return exitOurs
	case args[0] == vmGuest[1]:
		fmt.Fprintf(errs, "sandboxd: %v\n", vmrun.Guest())
		return exitOurs
	case args[0] == "-h" || args[0] == "--help":
		fmt.Fprint(out, vmUsage)
		return 0
	}
	fmt.Fprintf(errs, "sandboxd: vm: no such command: %q; see sandboxd vm --help\n", args[0])
	return exitOurs
}

var vmGuest = []string{"vm", "guest"}
