package abuse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox"
)

// stage is what one run of a case has: a directory of its own on the host, the
// Spec of its sandbox, and what it must undo.
type stage struct {
	ctx   context.Context
	suite *Suite
	column
	bare    bool // outside of a sandbox
	control bool // Run leaves the attack out, or takes the wall away
	dir     string
	spec    *sandbox.Spec
	args    []string
	undo    []func()

	watched *exec.Cmd // see bystander
}

func (s *stage) close() {
	for _, f := range slices.Backward(s.undo) {
		f()
	}
}

func (s *stage) after(f func()) { s.undo = append(s.undo, f) }

// this is the attacker's Spec.
func (s *stage) this(args ...string) sandbox.Spec {
	spec := sandbox.This(append([]string{"selftest", AttackArg}, args...)...)
	spec.Backend, spec.Peer = s.backend, false
	spec.Limits.Timeout, spec.Limits.Output = s.soon(patience), 64<<10
	return spec
}

// patience ends an attack that hangs. Nothing takes a tenth of it, but where all is slow.
const patience = 20 * time.Second

// soon is d, where most do in a tenth of it what it is for.
func (s *stage) soon(d time.Duration) time.Duration { return d * time.Duration(max(s.slow, 1)) }

// some is n starts, or as many as do not take for ever.
func (s *stage) some(n int) int { return n / max(s.slow, 1) }

// outside is the attacker outside of any sandbox.
func (s *stage) outside(flags uintptr, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.ctx, s.suite.copy, append([]string{"selftest", AttackArg}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=" + s.dir, bareEnv + "=1"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: flags | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		id := func(n int) []syscall.SysProcIDMap {
			return []syscall.SysProcIDMap{{ContainerID: 0, HostID: n, Size: 1}}
		}
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = id(os.Getuid()), id(os.Getgid())
	}
	cmd.WaitDelay = time.Second
	return cmd
}

// bystander is a process of the caller's, outside of any sandbox, to be attacked.
func (s *stage) bystander() error {
	cmd := exec.CommandContext(s.ctx, s.suite.copy, "selftest", AttackArg, "wait")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.after(func() {
		in.Close()
		_ = cmd.Process.Kill() // it may be stopped
		_ = cmd.Wait()
	})
	s.watched, s.args = cmd, []string{strconv.Itoa(cmd.Process.Pid)}
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	return err
}

// bystanderGone tells whether it was killed.
func (s *stage) bystanderGone() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.watched.Process.Pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// neighbour is another actor of the same backend, to be attacked.
func (s *stage) neighbour(args ...string) error {
	spec := s.this(append([]string{"wait"}, args...)...)
	r, w := io.Pipe()
	spec.Stdin = r
	ready := make(chan struct{})
	said := &notice{to: ready}
	spec.Stdout = said
	p, err := s.suite.host.Start(s.ctx, spec)
	if err != nil {
		return err
	}
	s.after(func() { w.Close(); p.Cancel("attacked", 0); <-p.Gone() })
	select {
	case <-ready:
	case <-p.Gone():
		return errors.New("the neighbour ended")
	}
	if len(args) > 0 { // it is about a file in its home
		home, _, _ := strings.Cut(said.all, "\n")
		s.args = []string{home + "/" + args[0]}
		return nil
	}
	init := p.PID()
	kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", init, init))
	if f := strings.Fields(string(kids)); err == nil && len(f) > 0 {
		s.args = []string{f[0]}
	} else {
		s.args = []string{strconv.Itoa(init)}
	}
	return nil
}

// notice closes a channel when somebody has said that it is ready.
type notice struct {
	to  chan struct{}
	all string
}

func (n *notice) Write(b []byte) (int, error) {
	if n.to != nil {
		if n.all += string(b); strings.HasSuffix(n.all, "ready\n") {
			close(n.to)
			n.to = nil
		}
	}
	return len(b), nil
}
