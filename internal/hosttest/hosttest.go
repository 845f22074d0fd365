// Package hosttest holds what tests of several packages need of the host and of
// themselves: skips that fail where everything must work, and a test binary that
// is its own child in another role.
//
//	func TestMain(m *testing.M) {
//		hosttest.Main(m, map[string]func() error{"peer": peer})
//	}
//
//	cmd := hosttest.Command("peer", path) // this binary, which will call peer
//
// Non-goals: anything about one package. It imports none of them, so that all may import it.
package hosttest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// RoleEnv makes a test binary play one of the roles given to [Main] instead of testing.
const RoleEnv = "SANDBOXD_TEST_ROLE"

// Main is the body of TestMain: it plays the role that RoleEnv names, or runs the tests.
func Main(m *testing.M, roles map[string]func() error) {
	Play(roles)
	os.Exit(m.Run())
}

// Play plays the role that RoleEnv names and ends the process, or returns if it
// names none. A role finds its arguments in os.Args, and its children inherit no role.
func Play(roles map[string]func() error) {
	name, ok := os.LookupEnv(RoleEnv)
	if !ok {
		return
	}
	os.Unsetenv(RoleEnv)
	play := roles[name]
	if play == nil {
		fmt.Fprintf(os.Stderr, "no such role: %q\n", name)
		os.Exit(2)
	}
	if err := play(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command is this test binary in a role. The race detector's second of sleep at
// the exit is not for such short lives.
func Command(role string, args ...string) *exec.Cmd {
	self, _ := os.Executable() // os.Args[0] may be relative, and "" does not start
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), RoleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// Lack skips a test because this host has not what it needs; where
// SANDBOXD_MUST_WORK is 1, that is a failure.
func Lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("SANDBOXD_MUST_WORK") == "1" {
		t.Fatalf("this host must have "+format, args...)
	}
	t.Skipf("this host lacks "+format, args...)
}
