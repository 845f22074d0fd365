package wasm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"sandboxd/ipc"
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/wasm/job"
)

// loadTimeout bounds what a worker takes until its module could run, in which a
// hostile module could keep the compiler busy. A Go program of 3 MB takes 2 s of CPU time.
const loadTimeout = 5 * time.Minute

// load waits until the worker has the module ready to run, or tells why it will not run.
func (b *Backend) load(ctx context.Context, p spawn.Process, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, fmt.Errorf("the module %s is not compiled within %v", name, loadTimeout))
	defer cancel()
	conn, _, err := p.(spawn.Peers).Accept(ctx)
	if err != nil {
		return b.gone(ctx, p, err)
	}
	defer conn.Close()
	var o job.Opened
	if _, err := hear(ctx, conn, 0, &o); err != nil {
		return b.refused(ctx, p, name, err)
	}
	worker, err := b.identity()
	if err != nil {
		return err
	}
	key := key(o.Module, worker)
	blob, known := b.cache.load(key)
	err = say(ctx, conn, &job.Begin{Name: known}, blob)
	blob.Close() // fine if there is none
	if err != nil {
		return b.gone(ctx, p, err)
	}
	var y job.Ready
	fresh, err := hear(ctx, conn, 1, &y)
	if err != nil {
		return b.refused(ctx, p, name, err)
	}
	if fresh != nil {
		b.cache.store(key, y.Name, fresh)
		fresh.Close()
	}
	return nil
}

type message interface{ UnmarshalBinary(b []byte) error }

// hear receives m, or what failed in its place.
func hear(ctx context.Context, c *ipc.Conn, files int, m message) (*os.File, error) {
	f, err := c.Recv(ctx, files)
	if err != nil {
		return nil, err
	}
	if err = m.UnmarshalBinary(f.Body); err == nil {
		return f.File, nil
	}
	f.Close()
	var no job.Failed
	if no.UnmarshalBinary(f.Body) == nil {
		return nil, &moduleError{no}
	}
	return nil, fmt.Errorf("the worker said what nobody asked it: %w", err)
}

func say(ctx context.Context, c *ipc.Conn, m *job.Begin, file *os.File) error {
	if file == nil {
		return c.Send(ctx, m)
	}
	return c.Send(ctx, m, file)
}

// moduleError is the worker's word on why the module will not run.
type moduleError struct{ job.Failed }

func (e *moduleError) Error() string { return e.Text }

// refused makes of a worker's word the failure of the program's own start, as if its exec had failed.
func (b *Backend) refused(ctx context.Context, p spawn.Process, name string, err error) error {
	no, ok := errors.AsType[*moduleError](err)
	if !ok {
		return b.gone(ctx, p, err)
	}
	plain := strings.Map(func(r rune) rune { // it may quote the module
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, no.Text)
	return &spawn.StepError{Step: plan.Exec, Object: fmt.Sprintf("run %q as a WASI program", name), Errno: no.Errno, Hint: plain}
}

// gone tells why there is no worker any more, which cannot be the module's doing in any way but by using up a limit.
func (b *Backend) gone(ctx context.Context, p spawn.Process, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, context.Cause(ctx))
	}
	if !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, ipc.ErrPeerGone) {
		return fmt.Errorf("%w: %w", spawn.ErrBoot, err)
	}
	if !errors.Is(err, os.ErrProcessDone) { // it has closed its connection, and has nothing more to do
		over, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, _ = p.Wait(over)
		_ = p.Kill()
	}
	exit, lost := p.Wait(ctx)
	switch {
	case lost != nil:
		return fmt.Errorf("%w: %w", spawn.ErrBoot, lost)
	case exit.Status.Signaled() && exit.Status.Signal() == syscall.SIGKILL:
		return fmt.Errorf("%w: its worker was killed while it compiled the module", spawn.ErrBoot)
	}
	return fmt.Errorf("%w: its worker ended with status %#x before the module could run: a limit on memory, processes or descriptors may be too small for it, or it is no %s of this version", spawn.ErrBoot, uint32(exit.Status), job.Program)
}
