package bench

import (
	"context"
	"os/exec"
)

type bwrap struct {
	name    string
	program []string
	c       command
}

// NewBwrap measures `bwrap --unshare-all` with a read-only view of the host to
// the first byte of the program.
func NewBwrap(w *Workspace) Subject {
	return &bwrap{name: "bwrap", program: []string{w.program()}}
}

// NewBwrapCommand measures the same with /bin/true, as a whole command: process
// start to exit.
func NewBwrapCommand() Subject {
	return &bwrap{name: "bwrap true", program: []string{"/bin/true"}, c: command{silent: true}}
}

func (b *bwrap) Name() string { return b.name }

func (b *bwrap) Probe(ctx context.Context) error {
	path, err := exec.LookPath("bwrap")
	if err != nil {
		return &AbsentError{Subject: b.name, Reason: "install bubblewrap", Err: err}
	}
	b.c.path = path
	b.c.args = append([]string{"--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"}, b.program...)
	return probeOnce(ctx, b, "it does not start; user namespaces may be forbidden to this user")
}

func (b *bwrap) Once(ctx context.Context) (Sample, error) { return b.c.once(ctx) }

func (b *bwrap) Version(ctx context.Context) (string, error) {
	return firstLine(ctx, "bwrap", "--version")
}
