package sandbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox/internal/lease"
	"sandboxd/spawn"
)

// fakeBackend starts what its test says.
type fakeBackend struct {
	start func(context.Context, *spawn.Request) (spawn.Process, error)
}

func (fakeBackend) Name() string                         { return "native" }
func (fakeBackend) Probe(context.Context) spawn.Features { return nil }
func (fakeBackend) Close() error                         { return nil }
func (fakeBackend) Warm(context.Context, *spawn.Request) {}
func (f fakeBackend) Start(ctx context.Context, r *spawn.Request) (spawn.Process, error) {
	return f.start(ctx, r)
}

// fakeProcess ends when it is killed.
type fakeProcess struct {
	terminal *os.File
	killed   chan struct{}
	once     sync.Once
}

func (p *fakeProcess) PID() int                    { return 1 }
func (p *fakeProcess) Signal(syscall.Signal) error { return nil }
func (p *fakeProcess) Kill() error                 { p.once.Do(func() { close(p.killed) }); return nil }
func (p *fakeProcess) Terminal() *os.File          { return p.terminal }
func (p *fakeProcess) Scratch() *os.File           { return nil }
func (p *fakeProcess) Phases() []spawn.Phase       { return nil }
func (p *fakeProcess) Wait(context.Context) (spawn.Exit, error) {
	<-p.killed
	return spawn.Exit{Reported: true}, nil
}

func (p *fakeProcess) Close() error {
	if p.terminal != nil {
		p.terminal.Close()
	}
	return nil
}

func fakeHost(start func(context.Context, *spawn.Request) (spawn.Process, error)) *Host {
	h := bare()
	h.lease, h.live = &lease.Lease{}, map[*Process]struct{}{}
	h.backends = map[string]spawn.Backend{"native": fakeBackend{start}}
	return h
}

// report waits for the end of an actor that must come.
func report(t *testing.T, a *Process) *Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience(30))
	defer cancel()
	r, err := a.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Close of a host ends an actor in whatever part of its start it finds it.
func TestCloseDuringStart(t *testing.T) {
	for name, heeds := range map[string]bool{"start heeds its context": true, "start comes to its end": false} {
		t.Run(name, func(t *testing.T) {
			starting, closing := make(chan struct{}), make(chan struct{})
			h := fakeHost(func(ctx context.Context, _ *spawn.Request) (spawn.Process, error) {
				close(starting)
				<-ctx.Done()
				if heeds {
					return nil, context.Cause(ctx)
				}
				return &fakeProcess{killed: make(chan struct{})}, nil
			})
			go func() {
				defer close(closing)
				<-starting
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			}()
			a, err := h.Start(context.Background(), Spec{Argv: []string{"true"}})
			if heeds != (err != nil) || err != nil && !strings.Contains(err.Error(), "host closed") {
				t.Fatalf("start: %v", err)
			}
			if err == nil {
				if e := report(t, a).Exit; e.Reason != Cancelled || e.Detail != "host closed" {
					t.Errorf("exit: %+v", e)
				}
			}
			select {
			case <-closing:
			case <-time.After(hosttest.Patience(30)):
				t.Fatal("close does not return")
			}
		})
	}
}

// A start that fails leaves no descriptor behind.
func TestFailedStartClosesStdio(t *testing.T) {
	broken := errors.New("broken")
	var a *Process
	h := fakeHost(func(context.Context, *spawn.Request) (spawn.Process, error) { return nil, broken })
	r, err := h.resolve(Spec{Argv: []string{"true"}, Stdin: strings.NewReader("")})
	if err != nil {
		t.Fatal(err)
	}
	a = &Process{host: h, res: r, pair: -1}
	if err := a.start(context.Background(), time.Now()); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	for i, f := range a.stdio.ours {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("our end of stream %d was left open (%v)", i, err)
		}
	}
}

// What lies in the pipes when the program has ended is held to the limit too.
func TestOutputAfterTheEnd(t *testing.T) {
	for n, want := range map[int]Reason{100: Exited, 101: Output} {
		h := fakeHost(func(_ context.Context, r *spawn.Request) (spawn.Process, error) {
			if _, err := r.Stdio[1].Write(bytes.Repeat([]byte("x"), n)); err != nil {
				return nil, err
			}
			p := &fakeProcess{killed: make(chan struct{})}
			return p, p.Kill()
		})
		gone := make(chan struct{})
		out := late{after: gone}
		a, err := h.Start(context.Background(), Spec{Argv: []string{"true"}, Stdout: &out, Limits: Limits{Output: 100}})
		if err != nil {
			t.Fatal(err)
		}
		<-a.Gone()
		close(gone)
		if r := report(t, a); r.Exit.Reason != want || r.Usage.OutputBytes != 100 || out.Len() != 100 {
			t.Errorf("%d bytes: %+v, %d delivered of %d", n, r.Exit, r.Usage.OutputBytes, out.Len())
		}
	}
}

// late is a reader that takes its time.
type late struct {
	bytes.Buffer
	after <-chan struct{}
}

func (l *late) Write(b []byte) (int, error) {
	<-l.after
	return l.Buffer.Write(b)
}

// What a terminal showed last is delivered, however late its reader is.
func TestTerminalTail(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	shown, master := os.NewFile(uintptr(p[1]), "shown"), os.NewFile(uintptr(p[0]), "master")
	h := fakeHost(func(context.Context, *spawn.Request) (spawn.Process, error) {
		if _, err := shown.Write(bytes.Repeat([]byte("x"), 50_000)); err != nil {
			return nil, err
		}
		p := &fakeProcess{terminal: master, killed: make(chan struct{})}
		return p, errors.Join(shown.Close(), p.Kill())
	})
	gone := make(chan struct{})
	out := late{after: gone}
	a, err := h.Start(context.Background(), Spec{Argv: []string{"true"}, Terminal: &spawn.Winsize{}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	<-a.Gone()
	close(gone)
	if r := report(t, a); out.Len() != 50_000 || r.Usage.OutputBytes != 50_000 {
		t.Errorf("delivered %d bytes, reported %d", out.Len(), r.Usage.OutputBytes)
	}
}
