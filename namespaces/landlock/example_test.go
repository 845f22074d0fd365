package landlock_test

import (
	"fmt"

	"sandboxd/namespaces/landlock"
)

func ExamplePolicy_Compile() {
	policy := landlock.Policy{
		Dirs: landlock.Paths{
			ReadExec:  []string{"/usr"},
			ReadWrite: []string{"/work"},
			Device:    []string{"/dev/pts"},
		},
		Files: landlock.Paths{
			Read:   []string{"/etc/passwd"},
			Device: []string{"/dev/null", "/dev/tty"},
		},
		NoInet: true,
	}
	ruleset, err := policy.Compile(5) // the ABI of Linux 6.10
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range ruleset.Rules {
		fmt.Printf("%-11s %#x\n", r.Path, r.Access)
	}
	fmt.Println("missing:", ruleset.Missing)
	// Output:
	// /usr        0xd
	// /work       0x77be
	// /dev/pts    0xc00e
	// /etc/passwd 0x4
	// /dev/null   0xc006
	// /dev/tty    0xc006
	// missing: [fs.resolve_unix net.bind_udp net.connect_send_udp scope.abstract_unix_socket scope.signal]
}
