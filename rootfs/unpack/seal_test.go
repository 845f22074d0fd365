package unpack_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
)

// If unpacking followed a link out of its directory, these tests would write
// all over the machine: they run where nothing else can be written to.
func TestMain(m *testing.M) { hosttest.Seal(m) }

func TestSealed(t *testing.T) {
	hosttest.Sealed(t)
	wd, err := os.Getwd()
	must(t, err)
	for _, dir := range []string{"/", "/etc", "/usr", "/dev", "/run", "/tmp", "/var/tmp", wd} {
		name := filepath.Join(dir, "unpack-seal-test")
		if err := os.WriteFile(name, nil, 0o600); err == nil {
			os.Remove(name)
			t.Errorf("%s can be made", name)
		} else if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"/etc/passwd", "/proc/self/oom_score_adj"} {
		if f, err := os.OpenFile(name, os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
			f.Close()
			t.Errorf("open %s for writing: %v", name, err)
		}
	}
	must(t, os.WriteFile(filepath.Join(t.TempDir(), "f"), nil, 0o600))
}
