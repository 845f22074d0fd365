package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spawnTimeout ends a spawn that hangs. It is far beyond any that works.
const spawnTimeout = 30 * time.Second

// command is one peer program to be started and timed.
type command struct {
	path   string
	args   []string // without the program's name
	env    []string // nil: ours
	attr   syscall.SysProcAttr
	silent bool       // it writes nothing: ready when it has ended
	thread *ownThread // nil: start it from any
}

func (c *command) start(cmd *exec.Cmd) (t0 time.Time, err error) {
	start := func() {
		t0 = time.Now()
		err = cmd.Start()
	}
	if c.thread == nil {
		start()
	} else {
		c.thread.do(start)
	}
	return t0, err
}

// once starts the command and waits for all of it. The end of ctx is seen before
// a spawn, not within one: a peer killed half-way leaves things behind, and it
// is over in milliseconds.
func (c *command) once(ctx context.Context) (Sample, error) {
	p, err := c.begin(ctx)
	if err != nil {
		return Sample{}, err
	}
	return p.wait(false)
}

// process is a started command whose first byte has come, if it writes any.
type process struct {
	cmd    *exec.Cmd
	stderr *os.File
	late   *time.Timer
	t0     time.Time
	ready  time.Duration
}

func (c *command) begin(ctx context.Context) (*process, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	stderr, err := memfd()
	if err != nil {
		return nil, err
	}
	attr := c.attr
	attr.Setpgid = true // Ctrl-C is for us; we let the peer end in order
	cmd := exec.Command(c.path, c.args...)
	cmd.Env, cmd.Stderr, cmd.SysProcAttr = c.env, stderr, &attr
	p := &process{cmd: cmd, stderr: stderr}
	if c.silent {
		return p, p.started(c.start(cmd))
	}
	r, w, err := os.Pipe()
	if err != nil {
		stderr.Close()
		return nil, err
	}
	defer r.Close()
	cmd.Stdout = w
	err = p.started(c.start(cmd))
	w.Close()
	if err != nil {
		return nil, err
	}
	var first [1]byte
	err = r.SetReadDeadline(p.t0.Add(spawnTimeout))
	if err == nil {
		_, err = io.ReadFull(r, first[:])
	}
	p.ready = time.Since(p.t0)
	if err != nil {
		_, waitErr := p.wait(false)
		return nil, errors.Join(fmt.Errorf("no byte from the program: %w", err), waitErr)
	}
	return p, nil
}

func (p *process) started(t0 time.Time, err error) error {
	if err != nil {
		p.stderr.Close()
		return err
	}
	p.t0 = t0
	p.late = time.AfterFunc(spawnTimeout, func() {
		if p.cmd.Process.Signal(syscall.Signal(0)) == nil { // not reaped, so the group is still its own
			_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
		}
	})
	return nil
}

// wait reaps the process, which must exit with 0 unless we have killed it.
func (p *process) wait(killed bool) (Sample, error) {
	err := p.cmd.Wait()
	s := Sample{Ready: p.ready, Total: time.Since(p.t0)}
	p.late.Stop()
	defer p.stderr.Close()
	if s.Ready == 0 {
		s.Ready = s.Total
	}
	if exit := (*exec.ExitError)(nil); killed && errors.As(err, &exit) {
		return s, nil
	}
	if err != nil {
		text := make([]byte, 2048)
		n, _ := p.stderr.ReadAt(text, 0) // the exit status alone is an error already
		return s, fmt.Errorf("%s: %w: %s", p.cmd.Path, err, strings.TrimSpace(string(text[:n])))
	}
	return s, nil
}

// memfd is a file for messages: unlike a pipe it needs no reader, and unlike a
// file on disk it needs no removal.
func memfd() (*os.File, error) {
	fd, err := unix.MemfdCreate("stderr", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "stderr"), nil
}

// firstLine runs a program that tells its version.
func firstLine(ctx context.Context, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, spawnTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return "", fmt.Errorf("bench: version of %s: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}
