package sandbox

import (
	"context"
	"errors"
	"io"
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
	for name, v := range map[string]int64{
		"memory": l.Memory, "pids": l.PIDs, "disk": l.Disk, "output": l.Output,
		"cpu_milli": int64(l.CPUs * 1000), "cpu_time_ms": l.CPUTime.Milliseconds(),
	} {
		if v > 0 {
			m[name] = uint64(v)
		}
	}
	return m
}
