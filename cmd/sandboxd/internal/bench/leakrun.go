package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// NewCommand measures a whole command, process start to exit. It must be silent.
func NewCommand(name, path string, args ...string) Subject {
	return &whole{name: name, c: command{path: path, args: args, silent: true}}
}

type whole struct {
	name string
	c    command
}

func (c *whole) Name() string { return c.name }
func (c *whole) Probe(ctx context.Context) error {
	return probeOnce(ctx, c, "the command fails")
}
func (c *whole) Once(ctx context.Context) (Sample, error) { return c.c.once(ctx) }

// LeakRun runs n sandboxes by the command self, kills the supervisor, the
// launcher or the init of every tenth at a random moment, and accounts for what
// is left of all of them after the next start has swept. struck is how many of
// the kills did not come too late.
func LeakRun(ctx context.Context, self string, n int) (leaks []Leak, struck int64, err error) {
	run := func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, "run", "--quiet", "--", "/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		return cmd
	}
	if out, err := run(ctx).CombinedOutput(); err != nil {
		return nil, 0, fmt.Errorf("bench: leak count: %w: %s", err, bytes.TrimSpace(out))
	}
	before, err := TakeSnapshot("/run/sandboxd", "/run/sandboxd.d")
	if err != nil {
		return nil, 0, err
	}
	var next, hits atomic.Int64
	err = workers(ctx, 2, func(ctx context.Context) (bool, error) {
		i := int(next.Add(1))
		if i > n {
			return false, nil
		}
		cmd := run(ctx)
		if i%10 != 0 {
			if out, err := cmd.CombinedOutput(); err != nil {
				return false, fmt.Errorf("bench: leak count: run %d: %w: %s", i, err, bytes.TrimSpace(out))
			}
			return true, nil
		}
		if err := cmd.Start(); err != nil {
			return false, fmt.Errorf("bench: leak count: run %d: %w", i, err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(8 * time.Millisecond))))
		killBelow(cmd.Process.Pid, rand.IntN(3))
		if cmd.Wait() != nil { // it was killed, or it lost its actor
			hits.Add(1)
		}
		return true, nil
	})
	if err != nil {
		return nil, 0, err
	}
	if out, err := run(ctx).CombinedOutput(); err != nil {
		return nil, 0, fmt.Errorf("bench: leak count: last run, which sweeps: %w: %s", err, bytes.TrimSpace(out))
	}
	leaks, err = before.AwaitClean(ctx, 20*time.Second)
	return leaks, hits.Load(), err
}

// killBelow kills pid, its child, or its child's child, whichever of them there
// is. A descendant is held by a pidfd and seen again below its parent before
// it is killed, so that a number used anew is never hit.
func killBelow(pid, depth int) {
	target, err := unix.PidfdOpen(pid, 0) // our own unreaped child
	if err != nil {
		return
	}
	for range depth {
		child := firstChild(pid)
		fd, err := unix.PidfdOpen(child, 0)
		if child == 0 || err != nil {
			break
		}
		if firstChild(pid) != child {
			unix.Close(fd)
			break
		}
		unix.Close(target)
		target, pid = fd, child
	}
	_ = unix.PidfdSendSignal(target, unix.SIGKILL, nil, 0)
	unix.Close(target)
}

// firstChild is 0 where there is none.
func firstChild(pid int) int {
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if f := strings.Fields(string(b)); err == nil && len(f) > 0 {
			child, _ := strconv.Atoi(f[0])
			return child
		}
	}
	return 0
}
