package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
	"sandboxd/spawn"
)

// wasmHost is a Host whose backend wasm works.
func wasmHost(t *testing.T) *Host {
	t.Helper()
	h, err := Open(Options{WasmWorker: hosttest.Wasm(t), WasmCache: hosttest.WASICache(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// wasi is a Spec of a module of ours.
func wasi(t *testing.T, name, source string, args ...string) Spec {
	t.Helper()
	text, err := os.ReadFile(hosttest.WASI(t, name, source))
	dir := t.TempDir()
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".wasm"), text, 0o644)); err != nil {
		t.Fatal(err)
	}
	return Spec{Backend: "wasm", Argv: append([]string{"/mnt/" + name + ".wasm"}, args...), Mounts: []rootfs.Mount{{Source: dir, Target: "/mnt"}}}
}

// A module is called and calls, with the API and the messages of any other actor.
func TestCallsOfAModule(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience(300))
	defer cancel()
	h := wasmHost(t)
	s := wasi(t, "wasi", "./examples/wasi")
	if _, err := h.Start(ctx, s); err == nil || !strings.Contains(err.Error(), "sandbox.Spec.Peer") {
		t.Errorf("without Peer: %v", err)
	}
	s.Peer, s.Serve, s.BootTimeout = true, new(Mux), time.Minute
	Handle(s.Serve, "motto", func(_ context.Context, name string) (string, error) { return strings.ToUpper(name), nil })
	err := Run(ctx, func(ctx context.Context, n *Nursery) error {
		a, err := n.Start(ctx, s)
		if err != nil {
			return err
		}
		for i := range 20 {
			if got, err := Call[int, int](ctx, a, "double", i); got != 2*i || err != nil {
				t.Errorf("double %d: %d, %v", i, got, err)
			}
		}
		if got, err := Call[string, string](ctx, a, "greet", "ada"); got != "hello, ada: ADA" || err != nil {
			t.Errorf("greet: %q, %v", got, err)
		}
		if _, err := Call[int, int](ctx, a, "nothing", 1); err == nil {
			t.Error("a verb that it does not serve was answered")
		}
		return nil
	}, On(h))
	if err != nil {
		t.Error(err)
	}
}

// What this program itself would be is no module, and auto takes no backend that runs nothing else.
func TestWasmIsNamed(t *testing.T) {
	h := bare()
	h.backends["wasm"] = &pretended{Backend: h.backends["wasm"]}
	for _, s := range []Spec{{Backend: Auto}, {Isolation: FloorNamespace}} {
		s.Argv = []string{"x.wasm"}
		h.backends["native"] = &pretended{Backend: h.backends["native"], why: errors.New("broken")}
		h.backends["container"] = &pretended{Backend: h.backends["container"], why: errors.New("broken")}
		if r, err := h.resolve(s); err == nil || strings.Contains(err.Error(), "wasm") {
			t.Errorf("%+v: %v, %v", s, r, err)
		}
	}
	s := Spec{Backend: "wasm", Argv: []string{"x"}, self: true}
	if _, err := h.resolve(s); !strings.Contains(err.Error(), string(spawn.Executables)) {
		t.Errorf("a function of this program: %v", err)
	}
}
