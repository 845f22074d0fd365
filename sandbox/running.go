package sandbox

import (
	"context"
	"errors"
	"io"
	"math"

	"golang.org/x/sys/unix"
)

// StartActor implements Starter.
func (h *Host) StartActor(ctx context.Context, s Spec, parent Running) (Running, error) {
	if parent == nil {
		return h.Start(ctx, s)
	}
	p, ok := parent.(*Process)
	if !ok {
		return nil, errors.New("the parent of an actor runs somewhere else")
	}
	return h.startBelow(ctx, p, s)
}

// Accept waits for the next connection of the actor's program: kernel
// credentials say that it is one of the actor's processes. Spec.Peer only.
func (a *Process) Accept(ctx context.Context) (io.ReadWriteCloser, error) {
	c, _, err := a.accept(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// End kills the actor, for the first reason that anyone has.
func (a *Process) End(why Reason, detail string) { a.end(why, detail) }

// Holds are the limits that hold, by the names of docs/protocol.md.
func (a *Process) Holds() map[string]uint64 {
	l := &a.res.limits
	m := map[string]uint64{}
	for _, h := range []struct {
		name, missing string
		value         int64
	}{
		{"memory", "memory", l.Memory},
		{"pids", "pids", l.PIDs},
		{"disk", "disk", l.Disk},
		{"output", "", l.Output},
		{"cpu_milli", "cpus", int64(l.CPUs * 1000)},
		{"cpu_time_ms", "cpu-time", l.CPUTime.Milliseconds()},
	} {
		if h.value > 0 && !a.res.lacks(h.missing) {
			m[h.name] = uint64(h.value)
		}
	}
	for _, r := range a.res.request.Rlimits {
		if r.Resource == unix.RLIMIT_NOFILE && r.Soft <= math.MaxInt64 { // beyond: none
			m["files"] = r.Soft
		}
	}
	return m
}
