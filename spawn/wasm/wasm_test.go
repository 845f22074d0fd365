package wasm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/native"
	"sandboxd/spawn/spawntest"
	"sandboxd/spawn/wasm"
)

func TestMain(m *testing.M) { spawntest.Main(m, nil) }

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(300)

func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, deadline) }

// given is what the tests need, made once.
var given struct {
	sync.Mutex
	worker, box string
	root        string // in which the suite's programs are WASI programs
}

// boxed is what box is called by.
var boxed = []string{"sh", "cat", "echo", "env", "printf", "sleep", "true"}

func prepare(t testing.TB) (worker, root string) {
	given.Lock()
	defer given.Unlock()
	if given.root != "" {
		return given.worker, given.root
	}
	given.worker, given.box = hosttest.Wasm(t), hosttest.WASI(t, "box", "./spawn/wasm/internal/box")
	root, err := os.MkdirTemp("", "root") // removed with the directory of all tests
	bin := filepath.Join(root, "usr", "bin")
	program, err2 := os.ReadFile(given.box)
	err = errors.Join(err, err2, os.Chmod(root, 0o755), os.MkdirAll(bin, 0o755), os.Mkdir(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "etc", "passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644), os.Symlink("usr/bin", filepath.Join(root, "bin")))
	for i, name := range boxed {
		if i == 0 {
			err = errors.Join(err, os.WriteFile(filepath.Join(bin, name), program, 0o755))
		} else {
			err = errors.Join(err, os.Link(filepath.Join(bin, boxed[0]), filepath.Join(bin, name)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	given.root = root
	return given.worker, root
}

func newBackend(t testing.TB) spawn.Backend {
	worker, _ := prepare(t)
	return reopen(worker, hosttest.WASICache(t))
}

func reopen(worker, cache string) spawn.Backend {
	return wasm.New(native.New(native.Options{}), wasm.Options{Worker: worker, Cache: cache})
}

var requests = spawntest.Requests(5)

// request has a root in which the suite's programs are modules, and room to compile them.
func request(t testing.TB) *spawn.Request {
	_, root := prepare(t)
	r := requests(t)
	r.Root, r.Scratch.Bytes = rootfs.Source{Kind: rootfs.Dir, Path: root}, 16<<20
	return r
}

var lacks = spawntest.Lacks{
	spawntest.Terminal:    "WASI preview 1 has no terminals",
	spawntest.Notify:      "a module makes no system call that it could choose",
	spawntest.Executables: "it runs WASI modules, no programs of this machine",
	spawntest.Children:    "WASI preview 1 starts no processes",
	spawntest.Signals:     "WASI preview 1 has no signals: what comes from outside ends the program",
	spawntest.Process:     "the process is the worker's: WASI has no ids, limits or descriptors of a process",
	spawntest.AnyEnv:      "the runtime takes KEY=value, each once",
}

func TestConformance(t *testing.T) { spawntest.Run(t, newBackend, request, lacks) }

func TestKills(t *testing.T) {
	spawntest.Kills(t, newBackend, request, spawntest.Launcher, spawntest.Init)
}

func TestAsUser(t *testing.T) {
	spawntest.Root(t)
	dir, cache := spawntest.Dir(t), spawntest.Dir(t)
	worker, box, hostile := filepath.Join(dir, "worker"), filepath.Join(dir, "box"), filepath.Join(dir, "attack")
	for to, from := range map[string]string{
		worker: hosttest.Wasm(t), box: hosttest.WASI(t, "box", "./spawn/wasm/internal/box"), hostile: hosttest.WASI(t, "attack", "./spawn/wasm/internal/attack"),
	} {
		b, err := os.ReadFile(from)
		if err := errors.Join(err, os.WriteFile(to, b, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(cache, spawntest.Ordinary, spawntest.Ordinary); err != nil {
		t.Fatal(err)
	}
	// With no descriptor to spare, Go's own fork into a user namespace leaves a pipe behind
	// (syscall.forkAndExecInChild), and each actor with a root of its own takes one such fork.
	spawntest.SomeAsUser(t, ".", "^TestKills$|^TestConformance$/^DescriptorsExhausted$", "SANDBOXD_WASM="+worker, "SANDBOXD_WASM_BOX="+box, "SANDBOXD_WASM_ATTACK="+hostile, "SANDBOXD_WASM_CACHE="+cache+"/modules")
}

// run starts a module and waits for its end.
func run(t testing.TB, b spawn.Backend, r *spawn.Request) (spawn.Exit, string, error) {
	t.Helper()
	out := spawntest.Piped(t, r, r.Argv...)
	p, err := b.Start(bounded(t), r)
	if err != nil {
		return spawn.Exit{}, "", err
	}
	exit, err := p.Wait(bounded(t))
	if err := errors.Join(err, p.Close()); err != nil {
		t.Error(err)
	}
	return exit, out(), nil
}

// module is a file with these bytes, in a directory that is let in at /m.
func module(t testing.TB, text string) (*spawn.Request, string) {
	t.Helper()
	dir := spawntest.Dir(t)
	if err := os.WriteFile(filepath.Join(dir, "x.wasm"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := request(t)
	r.Mounts = []rootfs.Mount{{Source: dir, Target: "/m"}}
	r.Argv = []string{"/m/x.wasm"}
	return r, dir
}

// A worker that is not there, is none, or is another one, is said to be so, with the way out.
func TestWorker(t *testing.T) {
	dir := spawntest.Dir(t)
	write := func(name, text string, mode os.FileMode) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	for name, want := range map[string]string{
		dir + "/none":              "no such file or directory (build it with `make build`",
		dir:                        "is not a program (build it",
		write("text", "x", 0o644):  "is not a program (build it",
		write("other", "x", 0o755): "exec format error",
		"/bin/true":                "start /bin/true", // whose loader is not in that root
	} {
		b := wasm.New(native.New(native.Options{}), wasm.Options{Worker: name})
		r := request(t)
		r.Argv = []string{"true"}
		if _, _, err := run(t, b, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		} else if step, ok := errors.AsType[*spawn.StepError](err); ok && step.Program() {
			t.Errorf("%s: %v is said to be the program's fault", name, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What a WASI program cannot have is refused by name.
func TestRefusals(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	for want, change := range map[spawn.Feature]func(*spawn.Request){
		spawn.Terminal:    func(r *spawn.Request) { r.Terminal = &spawn.Winsize{Rows: 24, Cols: 80} },
		spawn.NetNS:       func(r *spawn.Request) { r.HostNetwork = true },
		spawn.Executables: func(r *spawn.Request) { r.Exe = os.Stdin },
	} {
		r := request(t)
		r.Argv = []string{"true"}
		change(r)
		_, _, err := run(t, b, r)
		if gate, ok := errors.AsType[*spawn.Gate](err); !ok || gate.Feature != want || gate.Remedy == "" {
			t.Errorf("%s: %v", want, err)
		}
	}
	r := request(t)
	r.Argv, r.Env = []string{"true"}, []string{"noname"}
	if _, _, err := run(t, b, r); err == nil || !strings.Contains(err.Error(), `"noname"`) {
		t.Errorf("a variable without a name: %v", err)
	}
}

// Pieces of modules; the numbers before each are its length.
const (
	magic   = "\x00asm\x01\x00\x00\x00"
	nullary = "\x01\x04\x01\x60\x00\x00" // the type of functions without parameters and results
	one     = "\x03\x02\x01\x00"         // one function of it
	start   = "\x07\x0a\x01\x06_start\x00\x00"
)

// body is the code of the one function.
func body(code string) string {
	code = "\x00" + code + "\x0b" // no locals; end
	return "\x0a" + string(rune(len(code)+2)) + "\x01" + string(rune(len(code))) + code
}

// What is no module, no program, or wants more than there is, is refused by
// Start, as the program's fault, and nothing of it has run.
func TestNoModule(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", "neither a WebAssembly module nor executable"},
		"text":            {"#!/bin/sh\nexit 0\n", "neither a WebAssembly module"},
		"cut":             {magic + "\x01\x04\x01", "no module that runs here"},
		"component":       {"\x00asm\x0d\x00\x01\x00", "no module that runs here"},
		"a library":       {magic + nullary + one + body(""), "exports no function _start"},
		"foreign import":  {magic + nullary + "\x02\x0b\x01\x03env\x03abc\x00\x00", `imports abc from "env"`},
		"unknown WASI":    {magic + nullary + "\x02\x1e\x01\x16wasi_snapshot_preview1\x03abc\x00\x00", "wasi_snapshot_preview1.abc, which is not there"},
		"escape sequence": {magic + nullary + "\x02\x0c\x01\x03env\x04\x1b[2J\x00\x00", `imports ?[2J from "env"`},
		"more than 4 GiB": {magic + nullary + one + "\x05\x05\x01\x00\x81\x80\x04" + start + body(""), "no module that runs here"},
		"invalid code":    {magic + nullary + one + start + body("\x6a"), "no module that runs here"},
	} {
		r, _ := module(t, c.text)
		_, _, err := run(t, b, r)
		step, ok := errors.AsType[*spawn.StepError](err)
		if !ok || !step.Program() || step.Errno != unix.ENOEXEC && step.Errno != unix.EACCES || !strings.Contains(err.Error(), c.want) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %q, want %q", name, err, c.want)
		}
	}
}

// A module that the compiler dies of fails its own start, and says nothing in its stead.
func TestCompilerBomb(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	r, _ := module(t, magic+nullary+one+start+"\x0a\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b") // 2^32-1 locals
	exit, out, err := run(t, b, r)
	step, ok := errors.AsType[*spawn.StepError](err)
	if !errors.Is(err, spawn.ErrBoot) && (!ok || !step.Program()) {
		t.Errorf("%+v, %q, %v", exit, out, err)
	}
}

// How a module ends is told apart from how anything else ends.
func TestEnds(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	const exit = "\x01\x08\x02\x60\x00\x00\x60\x01\x7f\x00" + // types: nothing, and an i32
		"\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x01" + "\x03\x02\x01\x00" + "\x07\x0a\x01\x06_start\x00\x01"
	for name, c := range map[string]struct {
		text   string
		status uint32 // as of wait(2)
		out    string
	}{
		"returns":         {magic + nullary + one + start + body(""), 0, ""},
		"proc_exit":       {magic + exit + body("\x41\x07\x10\x00"), 7 << 8, ""},
		"proc_exit 300":   {magic + exit + body("\x41\xac\x02\x10\x00"), 44 << 8, ""},
		"traps":           {magic + nullary + one + start + body("\x00"), uint32(unix.SIGABRT), "trap: "},
		"no end of stack": {magic + nullary + one + start + body("\x10\x00"), uint32(unix.SIGABRT), "stack overflow"},
	} {
		r, _ := module(t, c.text)
		got, out, err := run(t, b, r)
		if err != nil || !got.Reported || uint32(got.Status) != c.status || !strings.Contains(out, c.out) || c.out == "" && out != "" {
			t.Errorf("%s: %+v, %q, %v; want status %#x and %q", name, got, out, err, c.status, c.out)
		}
	}
}

// Memory that there is not is refused to the module, before the kernel would kill it for it.
func TestMemory(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	// Grows by a page until it is told no, then traps unless that was at the page that was the limit.
	grow := func(pages byte) string {
		return magic + nullary + one + "\x05\x03\x01\x00\x00" + start + body(
			"\x03\x40"+"\x41\x01\x40\x00\x41\x7f\x47\x0d\x00"+"\x0b"+ // loop: if memory.grow(1) != -1, again
				"\x3f\x00\x41"+string([]byte{pages | 0x80, 0x03})+"\x47\x04\x40\x00\x0b") // if memory.size != pages | 0x180, trap
	}
	r, _ := module(t, grow(0)) // 384 pages: 24 MiB, half of the memory
	r.Memory = 48 << 20
	if exit, out, err := run(t, b, r); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %q, %v", exit, out, err)
	}
	r, _ = module(t, magic+nullary+one+"\x05\x04\x01\x00\x81\x03"+start+body("")) // begins with one more
	r.Memory = 48 << 20
	if _, _, err := run(t, b, r); err == nil || !strings.Contains(err.Error(), "no module that runs here") {
		t.Errorf("a module that needs more than there is: %v", err)
	}
}
