package sandboxtest

import (
	"context"
	"os"
	"sync"

	"sandboxd/sandbox"
	"sandboxd/spawn"
)

// TB is what of testing.TB is needed here, so that programs need not link it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// probed are what backends hold on this host, found out once by each test binary.
var probed struct {
	sync.Mutex
	of map[string]spawn.Features
}

// RequireBackend skips a test where a backend does not start programs here or
// lacks one of the features named. It asks as sandbox.Auto does: by doing it.
// Where SANDBOXD_MUST_WORK is 1, that is a failure.
//
//	sandboxtest.RequireBackend(t, "native", spawn.TwoIDs)
func RequireBackend(t TB, backend string, features ...spawn.Feature) {
	t.Helper()
	held, err := holds(backend)
	if err == nil {
		err = held.Hold()
	}
	if err == nil && len(features) > 0 {
		err = held.Hold(features...)
	}
	switch {
	case err == nil:
	case os.Getenv("SANDBOXD_MUST_WORK") == "1":
		t.Fatalf("the %s backend must work here: %v", backend, err)
	default:
		t.Skipf("does not apply: the %s backend does not hold this here: %v", backend, err)
	}
}

func holds(backend string) (spawn.Features, error) {
	probed.Lock()
	defer probed.Unlock()
	if f, ok := probed.of[backend]; ok {
		return f, nil
	}
	h, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	b, err := h.Backend(backend)
	if err != nil {
		return nil, err
	}
	if probed.of == nil {
		probed.of = map[string]spawn.Features{}
	}
	probed.of[backend] = b.Probe(context.Background())
	return probed.of[backend], nil
}
