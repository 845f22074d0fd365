// Package integration drives the finished program sandboxd from outside: the
// command line, real programs as input, and hostile programs that try to get
// out, stay behind, or take more than their limits.
//
//	go test ./integration                       # builds sandboxd and the hostile programs, then attacks
//	SANDBOXD_BINARY=/usr/bin/sandboxd go test ./integration
//
// As root every test runs twice, as root and as an ordinary user. After each
// the host must be as before: no process, mount, cgroup, namespace or file
// left, every canary unchanged.
//
// All tests need gcc and python3, which make the hostile programs; some need
// git, sqlite3, perl, busybox-static and CPython's own tests (Debian:
// libpython3-testsuite). What a host lacks is skipped by name; with
// SANDBOXD_MUST_WORK=1 it fails. SANDBOXD_SOAK=1 runs the loops longer, and
// SANDBOXD_SLOW=4 gives a slow machine four times as long. Limits on what an
// ordinary user runs take a delegated cgroup that is the tests' alone;
// SANDBOXD_DELEGATED=1 demands one.
//
// Non-goals: the Go API (package sandbox has its own tests) and performance
// (sandboxd bench).
package integration
