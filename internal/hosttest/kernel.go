package hosttest

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedKernel skips a test of what the kernel can only since a release. It is no
// [Lack]: an old kernel is what it is, and a newer one that cannot fails the test.
func NeedKernel(t testing.TB, major, minor int, what string) {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	older, err := olderThan(release, major, minor)
	if err != nil {
		t.Fatal(err)
	}
	if older {
		t.Skipf("does not apply: kernel %s has no %s, %d.%d has", release, what, major, minor)
	}
}

func olderThan(release string, major, minor int) (bool, error) {
	var a, b int
	if _, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil {
		return false, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return a < major || a == major && b < minor, nil
}
