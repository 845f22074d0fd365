package gvisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/gvisor"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) { spawntest.Main(m, nil) }

// deadline turns a hang into a failure.
var deadline = hosttest.Patience(60)

func bounded(t testing.TB) context.Context { return hosttest.Bounded(t, deadline) }

func newBackend(t testing.TB) spawn.Backend {
	return gvisor.New(gvisor.Options{Runsc: hosttest.Runsc(t)})
}

var request = spawntest.Requests(3)

var lacks = spawntest.Lacks{
	spawntest.Terminal: "no terminal leads into gVisor from here",
	spawntest.Inspect:  "the program's process is gVisor's kernel's own; the host has none of it to look at",
	spawntest.Notify:   "gVisor's seccomp has no listener",

	spawntest.SharedKernel: "the program is on gVisor's kernel",
}

func TestConformance(t *testing.T) {
	if testing.Short() { // all of it takes minutes
		spawntest.Only(t, newBackend, request, lacks, "ExitCode", "ForwardsSignals", "Stdio", "Facts", "NotFound", "KillTwice", "DaemonsEndWithKill", "PeerConnects")
		return
	}
	spawntest.Run(t, newBackend, request, lacks)
}

// What every start takes works for an ordinary user as well; TestConformance as one would take as long again.
func TestAsUser(t *testing.T) {
	spawntest.SomeAsUser(t, "^(TestGuest|TestRefused|TestExplain|TestHostileRoots)$", "", "SANDBOXD_RUNSC="+hosttest.Runsc(t))
}

// A runsc that is not there, is none, or is too old, is said to be so, with the way out.
func TestRunsc(t *testing.T) {
	dir := spawntest.Dir(t)
	says := func(name, text string) string {
		if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\necho '"+text+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	plain := dir + "/plain"
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		dir + "/none":                 "no such file or directory (build it with `make bin/runsc`",
		dir:                           "is not a program (build it",
		plain:                         "is not a program (build it",
		says("other", "busybox 1.36"): `it says "busybox 1.36", so it is no runsc`,
		says("bare", "runsc version VERSION_MISSING"):        "has no date",
		says("debian", "runsc version 0.0~20221219.0"):       "is 0.0~20221219.0, older than 20240601: it has no systrap",
		says("debian-1", "runsc version release-20221219.0"): "older than 20240601",
		says("number", "runsc version 120240601"):            "has no date",
	} {
		b := gvisor.New(gvisor.Options{Runsc: name})
		p, err := b.Start(bounded(t), with(t, "true"))
		if g, ok := errors.AsType[*spawn.Gate](err); p != nil || !ok || g.Feature != spawn.Helper || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if f := b.Probe(bounded(t)); len(f) != 1 || f[spawn.Helper] == nil {
			t.Errorf("%s: Probe says %v", name, f)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What gVisor cannot hold is refused by name, before anything is started.
func TestRefused(t *testing.T) {
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	for feature, change := range map[spawn.Feature]func(*spawn.Request){
		spawn.Terminal: func(r *spawn.Request) { r.Terminal = &spawn.Winsize{Rows: 1, Cols: 1} },
		spawn.Filter:   func(r *spawn.Request) { r.Notify = true },
	} {
		r := with(t, "true")
		change(r)
		p, err := b.Start(bounded(t), r)
		if g, ok := errors.AsType[*spawn.Gate](err); p != nil || !ok || g.Feature != feature || g.Remedy == "" {
			t.Errorf("%s: %v", feature, err)
		}
	}
}

// with is a request for argv without streams.
func with(t testing.TB, argv ...string) *spawn.Request { return spawntest.With(t, request(t), argv...) }

// The program is on gVisor's kernel, which has the name and the files of the Request, and of
// runsc's own neither the configuration nor the way to its control socket.
func TestGuest(t *testing.T) {
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	r := request(t)
	in := spawntest.Dir(t)
	r.Mounts = []rootfs.Mount{{Source: in, Target: "/in", Writable: true}, {Source: in, Target: "/read"}}
	if err := os.Chmod(in, 0o700); err != nil {
		t.Fatal(err)
	}
	out := spawntest.Piped(t, r, "sh", "-c", `uname -r; hostname; ls -A /run/sandboxd/s; echo x >/in/f && stat -c %u:%g /in/f; echo x 2>/dev/null >/read/g || echo held
		echo x 2>/dev/null >/usr/x || echo fixed; head -c 9000000 /dev/zero 2>/dev/null >/tmp/big || echo full; umount /proc 2>/dev/null || echo kept`)
	p, err := b.Start(bounded(t), r)
	if err != nil {
		t.Fatal(err)
	}
	if k := p.(spawn.OtherKernel).Kernel(); !strings.HasPrefix(k, "gvisor systrap ") || len(k) < 20 {
		t.Errorf("kernel %q", k)
	}
	if exit, err := p.Wait(bounded(t)); err != nil || exit.Status != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if text, want := out(), "4.19.0-gvisor\nconformance\n1000:1000\nheld\nfixed\nfull\nkept\n"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if b, err := os.ReadFile(in + "/f"); err != nil || string(b) != "x\n" {
		t.Errorf("what it wrote is %q, %v", b, err)
	}
}

func TestHostileRoots(t *testing.T) {
	spawntest.Warm(t, newBackend, request)
	spawntest.Watch(t)
	b := newBackend(t)
	t.Cleanup(func() { b.Close() })
	spawntest.HostileRoots(t, b, request)
}

// What Explain shows takes neither root nor runsc, and names both walls.
func TestExplain(t *testing.T) {
	r := with(t, "true")
	r.Landlock, r.Filter = true, make([]byte, 8)
	sections, err := gvisor.New(gvisor.Options{}).Explain(r)
	if err != nil || len(sections) != 6 {
		t.Fatalf("%v, %v", sections, err)
	}
	kinds := func(i int) string { return fmt.Sprint(sections[i].Steps) }
	if outer := kinds(2); strings.Contains(outer, "landlock") || strings.Contains(outer, "seccomp") || !strings.Contains(outer, "config.json") || !strings.Contains(outer, "keep file") {
		t.Errorf("around gVisor: %s", outer)
	}
	if runs := kinds(3); !strings.Contains(runs, "--platform=systrap") {
		t.Errorf("what runs: %s", runs)
	}
	if inner := kinds(4); !strings.Contains(inner, "seccomp") || !strings.Contains(inner, "connect") || strings.Contains(inner, "landlock") {
		t.Errorf("in gVisor: %s", inner)
	}
}
