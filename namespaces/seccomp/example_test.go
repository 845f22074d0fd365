package seccomp_test

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/seccomp"
)

// The default policy, for a program that shares its network namespace.
func ExampleDefault() {
	policy, err := seccomp.Default(seccomp.ARM64, seccomp.Options{NoInet: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	filter, err := policy.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(filter.Bytes()) == 8*len(filter), len(filter) <= unix.BPF_MAXINSNS)
	// Output: true true
}

// A policy is data: this one also takes listen(2) away.
func ExamplePolicy() {
	policy, err := seccomp.Default(seccomp.AMD64, seccomp.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	nr, _ := policy.Arch.Number("listen")
	policy.Rules = append(policy.Rules, seccomp.Rule{
		Name: "listen", Nr: uint16(nr), Else: seccomp.Errno(unix.EACCES),
	})
	_, err = policy.Compile()
	fmt.Println(slices.Contains(policy.Allow, uint16(nr)), err)
	// Output: true <nil>
}

func ExampleArch_Name() {
	fmt.Println(seccomp.AMD64.Name(101), seccomp.ARM64.Name(101))
	fmt.Println(seccomp.AMD64.Name(0x40000000 | 101))
	// Output:
	// ptrace nanosleep
	// x32 syscall 101
}
