package sandbox

import (
	"context"
	"os"
	"strings"
	"testing"

	"sandboxd/spawn"
)

// A listener that fails ends the actor: a program that makes a forbidden call
// would sleep until its timeout. A pipe can be polled, and is no listener.
func TestBrokenTrap(t *testing.T) {
	h := fakeHost(func(_ context.Context, r *spawn.Request) (spawn.Process, error) {
		out, in, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer in.Close()
		if _, err := in.WriteString("x"); err != nil {
			return nil, err
		}
		return &fakeProcess{killed: make(chan struct{})}, r.Inspect(1, out)
	})
	a, err := h.Start(t.Context(), Spec{Argv: []string{"true"}, SeccompKill: true})
	if err != nil {
		t.Fatal(err)
	}
	if e := report(t, a).Exit; e.Reason != Lost || e.Code != 125 || e.Signal != "" || !strings.Contains(e.Detail, "forbidden system call") {
		t.Errorf("%+v", e)
	}
}
