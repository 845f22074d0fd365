package namespaces

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// causes are what each host answers; the rest answer EPERM.
var causes = map[string]error{
	"rhel-7": unix.EINVAL, "no-userns": unix.EINVAL, "old-kernel": unix.ENOSYS, "gvisor": unix.ENOSYS, "wsl1": unix.EINVAL, "full": unix.ENOSPC,
	"ubuntu-24.04": unix.EACCES,
}

// Each folder of testdata/hosts holds the files that Diagnose reads, as such a
// host has them, and what it says of it. They are written by hand.
func TestDiagnoseHosts(t *testing.T) {
	hosts, err := filepath.Glob("testdata/hosts/*")
	if err != nil || len(hosts) < 15 {
		t.Fatalf("hosts: %v, %v", hosts, err)
	}
	for _, dir := range hosts {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			cause := causes[filepath.Base(dir)]
			if cause == nil {
				cause = unix.EPERM
			}
			observed, remedy := Diagnose(dir, fmt.Errorf("clone: %w", cause))
			got := fmt.Sprintf("place: %s\nobserved: %s\nremedy: %s\n", Place(dir), observed, remedy)
			golden := filepath.Join(dir, "want.txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// Diagnose looks at the files below its root only: what is not there is not taken from the host that runs the test.
func TestDiagnoseReadsBelowItsRoot(t *testing.T) {
	empty := t.TempDir()
	if p := Place(empty); p != "" {
		t.Errorf("place of an empty host is %q", p)
	}
	observed, remedy := Diagnose(empty, unix.ENOSPC)
	if observed != unix.ENOSPC.Error() || remedy == "" {
		t.Errorf("got %q, %q", observed, remedy)
	}
}
