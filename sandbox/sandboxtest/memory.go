// Package sandboxtest lets users test their trees of actors without root,
// namespaces or processes: the programs are Go functions in the test's own
// process, and the connections can be made to fail.
//
//	m := sandboxtest.Memory{"worker": sandboxtest.Serve(&mux)}
//	err := sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
//		a, err := n.Start(ctx, sandbox.Spec{Argv: []string{"worker"}, Peer: true})
//		…
//	}, sandbox.On(m))
//
// Supervision, calls, streams, cancel and discovery are the real ones; the same
// behaviours are tested on this and on real sandboxes.
//
// Non-goals: isolation and limits. A function cannot be killed as a process
// can: when its actor is, it is left alone with a context that has ended, and
// should return.
package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

// Memory is a sandbox.Starter whose programs are functions, by the name in Spec.Argv[0].
type Memory map[string]Program

// Program is what an actor runs. It returns the exit code. ctx ends when the
// actor is killed; a SIGTERM ends it as well, unless the program takes them from Env.Signals.
type Program func(ctx context.Context, env *Env) int

// Env is what a Program sees of its surroundings.
type Env struct {
	Args    []string // Spec.Argv
	Environ []string // Spec.Env
	Signals <-chan syscall.Signal
	Stdin   io.Reader // Spec.Stdin, or empty
	Stdout  io.Writer // Spec.Stdout, or nowhere
	Stderr  io.Writer // Spec.Stderr, or nowhere

	take func()
	dial func(context.Context) (io.ReadWriteCloser, error)
}

// TakeSignals makes SIGTERM come by Signals only, of which it keeps 16.
func (e *Env) TakeSignals() { e.take() }

// Dial connects to the supervisor. The connection is the caller's, and ends with the actor.
func (e *Env) Dial(ctx context.Context) (io.ReadWriteCloser, error) { return e.dial(ctx) }

// Serve is a program that serves m until it is asked to end.
func Serve(m *peer.Mux) Program {
	return func(ctx context.Context, env *Env) int {
		conn, err := env.Dial(ctx)
		if err != nil {
			return 1
		}
		p, err := peer.Over(ctx, conn, m)
		if err != nil || p.Wait(ctx) != nil {
			return 1
		}
		return 0
	}
}

var ids atomic.Int64

// StartActor implements sandbox.Starter.
func (m Memory) StartActor(ctx context.Context, s sandbox.Spec, parent sandbox.Running) (sandbox.Running, error) {
	if len(s.Argv) == 0 || m[s.Argv[0]] == nil {
		return nil, fmt.Errorf("%w: sandboxtest has no program %q", sandbox.ErrSpec, s.Argv)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p, _ := parent.(*actor)
	if p == nil && parent != nil {
		return nil, errors.New("sandboxtest: the parent of an actor runs somewhere else")
	}
	signals := make(chan syscall.Signal, 16)
	a := &actor{
		id: "m." + strconv.FormatInt(ids.Add(1), 10), name: s.Name, signals: signals,
		gone: make(chan struct{}), began: time.Now(), dials: make(chan io.ReadWriteCloser),
	}
	if a.name == "" {
		a.name = s.Argv[0]
	}
	a.env = &Env{
		Args: s.Argv, Environ: s.Env, Signals: signals, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr,
		take: func() { a.takes.Store(true) }, dial: a.dial,
	}
	if s.Stdin == nil {
		a.env.Stdin = strings.NewReader("")
	}
	if s.Stdout == nil {
		a.env.Stdout = io.Discard
	}
	if s.Stderr == nil {
		a.env.Stderr = io.Discard
	}
	ctx, a.kill = context.WithCancelCause(context.Background())
	if p != nil {
		go func() {
			select {
			case <-p.gone:
				a.End(sandbox.Cancelled, "its parent ended")
			case <-a.gone:
			}
		}()
	}
	if s.Limits.Timeout > 0 {
		t := time.AfterFunc(s.Limits.Timeout, func() { a.End(sandbox.Timeout, "wall time limit reached") })
		context.AfterFunc(ctx, func() { t.Stop() })
	}
	go a.run(ctx, m[s.Argv[0]])
	return a, nil
}

// actor is a function that passes for a process.
type actor struct {
	id, name string
	env      *Env
	signals  chan syscall.Signal
	takes    atomic.Bool
	dials    chan io.ReadWriteCloser
	kill     context.CancelCauseFunc
	began    time.Time
	gone     chan struct{}

	once   sync.Once
	report sandbox.Report
	mu     sync.Mutex
	over   bool
	conns  []io.Closer // the supervisor's ends
}

func (a *actor) run(ctx context.Context, f Program) {
	code := 255
	defer func() {
		if v := recover(); v != nil {
			a.end(134, "SIGABRT", sandbox.Signaled, fmt.Sprint(v))
			return
		}
		a.end(code, "", sandbox.Exited, "")
	}()
	code = f(ctx, a.env)
}

// end is the actor's end, the first one that comes.
func (a *actor) end(code int, signal string, why sandbox.Reason, detail string) {
	a.once.Do(func() {
		a.report = sandbox.Report{
			Schema: sandbox.ReportSchema, Backend: "memory", Actor: sandbox.ActorID{ID: a.id, Name: a.name},
			Isolation: sandbox.Isolation{Enforced: []string{}, Missing: []sandbox.Missing{{What: "everything", Reason: "a function in memory is no sandbox"}}, Network: "host"},
			Exit:      sandbox.Exit{Code: code, Signal: signal, Reason: why, Detail: detail},
			Usage:     sandbox.Usage{Wall: time.Since(a.began)},
			Spawn:     sandbox.SpawnTime{Phases: []sandbox.Phase{}},
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.over = true
		for _, c := range a.conns {
			c.Close() // first: the dead say nothing
		}
		a.kill(fmt.Errorf("ended: %s %s", why, detail))
		close(a.gone)
	})
}

func (a *actor) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	here, there := net.Pipe()
	select {
	case a.dials <- there:
		return here, nil
	case <-a.gone:
		return nil, errors.New("sandboxtest: the actor is gone")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (a *actor) ID() string               { return a.id }
func (a *actor) Gone() <-chan struct{}    { return a.gone }
func (a *actor) Holds() map[string]uint64 { return nil }

func (a *actor) Accept(ctx context.Context) (io.ReadWriteCloser, error) {
	select {
	case c := <-a.dials:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.over {
			c.Close()
			return nil, os.ErrProcessDone
		}
		a.conns = append(a.conns, c)
		return c, nil
	case <-a.gone:
		return nil, os.ErrProcessDone
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (a *actor) Signal(s syscall.Signal) error {
	select {
	case a.signals <- s:
	default:
	}
	if s == syscall.SIGKILL {
		a.End(sandbox.Signaled, "killed")
	} else if s == syscall.SIGTERM && !a.takes.Load() {
		a.end(143, "SIGTERM", sandbox.Signaled, "")
	}
	return nil
}

func (a *actor) End(why sandbox.Reason, detail string) {
	code := 137
	if why == sandbox.Timeout {
		code = 124
	}
	a.end(code, "SIGKILL", why, detail)
}

func (a *actor) Wait(ctx context.Context) (*sandbox.Report, error) {
	select {
	case <-a.gone:
		return &a.report, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
