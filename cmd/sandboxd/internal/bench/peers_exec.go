package bench

import (
	"context"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

type execSubject struct {
	name string
	c    command
}

// NewExec measures Go's os/exec without any isolation: the floor of a process.
func NewExec(w *Workspace) Starter {
	return &execSubject{"exec", command{path: w.program(), env: []string{}}}
}

// NewExecNamespaces measures os/exec with seven namespaces and nothing else.
// Its cost grows with the caller's memory, as Go cannot vfork with a user
// namespace.
func NewExecNamespaces(w *Workspace) Starter {
	return &execSubject{"exec ns", command{path: w.program(), env: []string{}, attr: syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}}}
}

func (e *execSubject) Name() string { return e.name }

func (e *execSubject) Probe(ctx context.Context) error {
	return probeOnce(ctx, e, "the program does not start; TMPDIR may be mounted noexec, or user namespaces forbidden")
}

func (e *execSubject) Once(ctx context.Context) (Sample, error) { return e.c.once(ctx) }

func (e *execSubject) Start(ctx context.Context) (Live, error) {
	c := e.c
	c.args = []string{"hold"}
	p, err := c.begin(ctx)
	if err != nil {
		return Live{}, err
	}
	p.late.Stop()
	return Live{Ready: p.ready, PIDs: []int{p.cmd.Process.Pid}, Stop: func() error {
		err := p.cmd.Process.Kill()
		_, waitErr := p.wait(true)
		return errors.Join(err, waitErr)
	}}, nil
}
