// Package landlock turns a policy about files, TCP, UDP, signals and abstract
// sockets into the numbers that landlock_create_ruleset(2) and
// landlock_add_rule(2) take, for the Landlock ABI of the running kernel. It is
// data only; whoever starts the program opens the paths and applies the rules:
//
//	abi, err := landlock.ABI()
//	...
//	ruleset, err := landlock.Policy{
//		Dirs:  landlock.Paths{ReadExec: []string{"/usr"}, ReadWrite: []string{"/work"}},
//		Files: landlock.Paths{Device: []string{"/dev/null"}},
//	}.Compile(abi)
//	...
//	if len(ruleset.Missing) > 0 { ... } // this kernel cannot hold all of it
//
// Everything is denied but what the policy grants. Every ruleset also scopes
// signals and abstract Unix sockets to the sandbox, since ABI 6.
//
// What each ABI added, after Documentation/userspace-api/landlock.rst and
// <linux/landlock.h>:
//
//	ABI  Linux  here
//	1    5.13   13 file rights
//	2    5.19   refer: rename and link across directories, refused before
//	3    6.2    truncate
//	4    6.7    bind_tcp, connect_tcp
//	5    6.10   ioctl_dev
//	6    6.12   scopes: abstract_unix_socket, signal
//	7    6.15   nothing (audit flags of restrict_self)
//	8    7.0    nothing (TSYNC flag of restrict_self)
//	9    7.1    resolve_unix: connect to a socket by its path
//	10   7.2    bind_udp, connect_send_udp
//
// An ABI newer than the last is compiled as the last: ABIs only add.
//
// # Non-goals
//
// Landlock does not see chdir, stat, chmod, chown, setxattr, utime, flock,
// fcntl or access, nor what a descriptor opened earlier may do, nor mapping a
// readable file as code. Best effort is the caller's decision, made from
// Missing and never here.
package landlock
