package wasm_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
	"sandboxd/spawn/spawntest"
)

// attack is a request for the hostile module.
func attack(t testing.TB, args ...string) *spawn.Request {
	t.Helper()
	text, err := os.ReadFile(hosttest.WASI(t, "attack", "./spawn/wasm/internal/attack"))
	if err != nil {
		t.Fatal(err)
	}
	r, _ := module(t, string(text))
	r.Argv = append(r.Argv, args...)
	return r
}

// No path, link or descriptor leads a module out of the actor's root, nor to
// its own worker; the walls of the backend below are down here.
func TestAttacks(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	const word = "the-host-s-own-word"
	canary := filepath.Join(spawntest.Dir(t), "canary")
	if err := os.WriteFile(canary, []byte(word), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"files", canary, word}, {"worker"}, {"descriptors"}, {"many"}} {
		r := attack(t, args...)
		r.Rlimits = []spawn.Rlimit{{Resource: spawn.RlimitNofile, Soft: 128, Hard: 128}}
		want := "end\n"
		if args[0] == "many" {
			want = "refused true\nend\n"
		}
		if exit, out, err := run(t, b, r); err != nil || exit.Status != 0 || out != want {
			t.Errorf("%s: %+v, %v:\n%s", args[0], exit, err, out)
		}
	}
	if b, err := os.ReadFile(canary); err != nil || string(b) != word {
		t.Errorf("the host's file is now %q, %v", b, err)
	}
}

// A file that is no regular one, or has no end, does not keep the worker.
func TestModuleFiles(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	for name, c := range map[string]struct {
		make func(path string) error
		want unix.Errno
	}{
		"a pipe":         {func(p string) error { return unix.Mkfifo(p, 0o644) }, unix.EACCES},
		"a directory":    {func(p string) error { return os.Mkdir(p, 0o755) }, unix.EACCES},
		"a terabyte":     {func(p string) error { return errors.Join(os.WriteFile(p, []byte(magic), 0o644), os.Truncate(p, 1<<40)) }, unix.E2BIG},
		"a device":       {func(p string) error { return os.Symlink("/dev/zero", p) }, unix.EACCES},
		"a link to self": {func(p string) error { return os.Symlink("x.wasm", p) }, unix.ELOOP},
		"not readable":   {func(p string) error { return errors.Join(os.WriteFile(p, []byte(magic), 0o644), os.Chmod(p, 0)) }, unix.EACCES},
	} {
		r, dir := module(t, "")
		path := filepath.Join(dir, "x.wasm")
		if err := errors.Join(os.Remove(path), c.make(path)); err != nil {
			t.Fatal(err)
		}
		_, _, err := run(t, b, r)
		if step, ok := errors.AsType[*spawn.StepError](err); !ok || !step.Program() || step.Errno != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A module that computes for ever dies by a kill, as anything does.
func TestEndless(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	r, _ := module(t, magic+nullary+one+start+body("\x03\x40\x0c\x00\x0b"))
	spawntest.Piped(t, r, r.Argv...)
	p, err := b.Start(bounded(t), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	time.Sleep(50 * time.Millisecond) // it computes
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if exit, err := p.Wait(bounded(t)); err != nil || !exit.Status.Signaled() || exit.Status.Signal() != unix.SIGKILL {
		t.Errorf("%+v, %v", exit, err)
	}
}

// What one backend has compiled, another one of the same user's need not
// compile; what somebody else may have written, none uses.
func TestCache(t *testing.T) {
	worker, _ := prepare(t)
	cache := filepath.Join(spawntest.Dir(t), "modules")
	entries := func() []string {
		list, err := filepath.Glob(cache + "/*")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	text := magic + nullary + one + start + body("\x00") // traps
	for range 2 {
		b := reopen(worker, cache)
		r, _ := module(t, text)
		if exit, out, err := run(t, b, r); err != nil || exit.Status.Signal() != unix.SIGABRT {
			t.Errorf("%+v, %q, %v", exit, out, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if list := entries(); len(list) != 1 {
			t.Fatalf("the cache has %q", list)
		}
	}
	spoil := func(text string) {
		if err := os.WriteFile(entries()[0], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What is no compiled module is compiled anew, or said to be what it is; it is never run as if it were.
	spoil("spoilt")
	b := reopen(worker, cache)
	r, _ := module(t, text)
	if exit, _, err := run(t, b, r); err == nil && exit.Status.Signal() != unix.SIGABRT {
		t.Errorf("with a spoilt cache: %+v", exit)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	// A directory that others may write to is left alone.
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(entries()[0])
	if err != nil {
		t.Fatal(err)
	}
	b = reopen(worker, cache)
	r, _ = module(t, text+"\x00\x03\x01x\x00") // another module: a section of its own
	if _, _, err := run(t, b, r); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(entries()[0]); err != nil || string(after) != string(before) || len(entries()) != 1 {
		t.Errorf("it was used: %q", entries())
	}
}
