package sandboxtest_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// cpython is Debian's, the one that python3-msgpack is for.
const cpython = "/usr/bin/python3"

// sdkEnv names a copy of the SDK for a user who may not read the repository.
const sdkEnv = "SANDBOXD_TEST_SDK"

// fromArgument runs a program out of an archive in its argument: the backend
// process mounts nothing, but lets its actor write to a directory.
const fromArgument = `import base64, os, runpy, sys
at = os.path.join(os.environ["TMPDIR"], "app.zip")
with open(at, "wb") as f:
    f.write(base64.b64decode(sys.argv.pop(1)))
sys.path.insert(0, at)
runpy.run_module("tests.actor_under_test", run_name="__main__", alter_sys=True)
`

// python runs sdk/python's actor_under_test.py as actors of a backend.
func python(t *testing.T, backend string) setup {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), cpython, "-c", "import msgpack").CombinedOutput(); err != nil {
		hosttest.Lack(t, "%s with msgpack (Debian packages python3 and python3-msgpack): %v\n%s", cpython, err, out)
	}
	sdk := copySDK(t)
	s := real(backend)
	s.spec = func(name string, args ...string) sandbox.Spec {
		spec := sandbox.Spec{Name: name, Peer: true, Backend: backend, BestEffort: true, BootTimeout: watchdog}
		spec.Limits.PIDs = 1024
		if backend == "process" {
			spec.Argv = append([]string{cpython, "-c", fromArgument, base64.StdEncoding.EncodeToString(zipped(t, sdk))}, args...)
			return spec
		}
		spec.Mounts = []rootfs.Mount{{Source: sdk, Target: "/sdk"}}
		spec.Argv = append([]string{cpython, "-B", "/sdk/tests/actor_under_test.py"}, args...)
		return spec
	}
	return s
}

// copySDK copies what the program consists of to where every user can read it.
func copySDK(t *testing.T) string {
	t.Helper()
	from := os.Getenv(sdkEnv)
	if from == "" {
		from = filepath.Join("..", "..", "sdk", "python")
	}
	to := spawntest.Dir(t)
	for _, pattern := range []string{"sandboxd/*.py", "tests/__init__.py", "tests/actor_under_test.py"} {
		files, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s in %s: %v", pattern, from, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			dir := filepath.Join(to, filepath.Dir(pattern))
			if err == nil {
				err = os.MkdirAll(dir, 0o755)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return to
}

func zipped(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	err := w.AddFS(os.DirFS(dir))
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// eachPython runs a behaviour on every backend whose actors are processes.
func eachPython(t *testing.T, f func(*scope)) {
	for _, backend := range []string{"native", "process"} {
		t.Run(backend, func(t *testing.T) {
			t.Helper()
			f(newScope(t, python(t, backend)))
		})
	}
}

func TestPythonAsUser(t *testing.T) {
	spawntest.SomeAsUser(t, "^TestPython", "", sdkEnv+"="+copySDK(t))
}
