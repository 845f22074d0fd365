package spawntest

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces/landlock"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
)

// exeTests are about programs that are given by descriptor.
var exeTests = []test{
	{"Exe", "", testExe},
	{"ExeOwnRoot", Hidden, testExeOwnRoot},
	{"ExeRefused", "", testExeRefused},
}

// exeRole is the role of a program that says what it is.
const exeRole = "spawntest-exe"

func playExe() error {
	exe, err := os.Readlink("/proc/self/exe")
	fmt.Println(strings.Join(os.Args, " "), os.Getenv("WORD"), filepath.Base(strings.TrimSuffix(exe, " (deleted)")), err)
	for fd := 3; fd < 64; fd++ { // the runtime's own are no files of that name
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && (link == exe || strings.HasPrefix(link, "/memfd:")) {
			fmt.Printf("descriptor %d is %s\n", fd, link)
		}
	}
	return nil
}

// selfMemfd is this binary as a sealed memory file.
func selfMemfd(t testing.TB) *os.File {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	f, err := launcher.Sealed("exe", self)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func openExe(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// byFD makes a Request run exe in the role that says what it is.
func byFD(exe *os.File) func(*spawn.Request) {
	return func(r *spawn.Request) {
		r.Exe, r.Env = exe, append(r.Env, RoleEnv+"="+exeRole, "WORD=heard", "GORACE=atexit_sleep_ms=0")
	}
}

// A memory file and a regular one, which is nowhere in the program's sight, run with and without the second wall.
func testExe(t *testing.T, s *suite) {
	b := s.open(t)
	_, noLandlock := landlock.ABI()
	for name, exe := range map[string]*os.File{"memfd:exe": selfMemfd(t), "self": openExe(t, Self(t))} {
		for _, wall := range []bool{false, noLandlock == nil} {
			out := s.output(t, b, func(r *spawn.Request) {
				byFD(exe)(r)
				r.Landlock = wall
			}, "any name", "a", "b")
			if s.foreign() { // whose kernel has no name for it
				name = strings.Fields(out)[5]
			}
			if want := "any name a b heard " + name + " <nil>\n"; out != want {
				t.Errorf("%s, Landlock %v: %q, want %q", name, wall, out, want)
			}
		}
	}
	// With everything else that travels.
	if out := s.output(t, b, func(r *spawn.Request) {
		byFD(selfMemfd(t))(r)
		r.Inspect = func(int, *os.File) error { return nil }
	}, "x"); !strings.HasPrefix(out, "x heard memfd:exe") && !s.foreign() || strings.Contains(out, "descriptor") {
		t.Errorf("inspected: %q", out)
	}
}

// A root of one's own need not have the program, and may be one that nothing can be executed from.
func testExeOwnRoot(t *testing.T, s *suite) {
	self, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for _, p := range self.Progs {
		if p.Type == elf.PT_INTERP {
			t.Skip("does not apply: this test binary is dynamic, as under the race detector, and its loader is not in that root")
		}
	}
	b := s.open(t)
	for kind, root := range map[string]rootfs.Source{"dir": {Kind: rootfs.Dir, Path: Dir(t)}, "scratch": {Kind: rootfs.Scratch}} {
		out := s.output(t, b, func(r *spawn.Request) {
			byFD(selfMemfd(t))(r)
			r.Root = root
		}, "x")
		if out != "x heard memfd:exe <nil>\n" && !(s.foreign() && strings.HasPrefix(out, "x heard ") && strings.HasSuffix(out, " <nil>\n")) {
			t.Errorf("%s: %q", kind, out)
		}
	}
}

// What cannot be executed by descriptor is refused in words, as the program's own fault.
func testExeRefused(t *testing.T, s *suite) {
	b := s.open(t)
	script := filepath.Join(Dir(t), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(t, bounded(t), b, byFD(openExe(t, script)), "x"); err == nil || !strings.Contains(err.Error(), "is a script") {
		t.Errorf("a script: %v", err)
	}
	blind, err := unix.Open(script, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(blind), script)
	defer f.Close()
	text, err := launcher.Sealed("text", strings.NewReader("neither nor"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	plain := filepath.Join(Dir(t), "plain")
	if err := os.WriteFile(plain, []byte("\x7fELF"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		exe   *os.File
		errno syscall.Errno
	}{
		"a script that we cannot read": {f, unix.ENOENT},
		"a text":                       {text, unix.ENOEXEC},
		"not executable":               {openExe(t, plain), unix.EACCES},
		"a directory":                  {openExe(t, "/"), unix.EACCES},
	} {
		_, err := s.try(t, bounded(t), b, byFD(c.exe), "x")
		if step, ok := errors.AsType[*spawn.StepError](err); !ok || !step.Program() || step.Errno != c.errno || !strings.Contains(err.Error(), `exec "x" by its descriptor`) || !strings.Contains(err.Error(), "(") {
			t.Errorf("%s: %v, want %v with a way out", what, err, c.errno)
		}
	}
}
