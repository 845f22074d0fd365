package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ballast is touched memory, as a supervisor with a large heap has it.
type Ballast []byte

// NewBallast makes size bytes of it; Free gives them back.
func NewBallast(size int) (Ballast, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("bench: a heap of %d bytes: %w", size, err)
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return b, nil
}

// Free unmaps it.
func (b Ballast) Free() error { return unix.Munmap(b) }

// TwinArg makes `sandboxd bench` a twin: see NewTwin.
const TwinArg = "-twin"

// Twin is the cold subject in a process of its own, with an empty heap.
type Twin struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// NewTwin starts it; the workspace ends it.
func NewTwin(w *Workspace, self string) (*Twin, error) {
	cmd := exec.Command(self, "bench", TwinArg)
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: twin: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench: twin: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench: twin: %w", err)
	}
	t := &Twin{cmd: cmd, in: in, out: bufio.NewReader(out)}
	return t, w.onClose(func() error {
		in.Close() // its end
		return cmd.Wait()
	})
}

// Name says what it is.
func (t *Twin) Name() string { return "sandboxd cold twin" }

// Probe spawns once.
func (t *Twin) Probe(ctx context.Context) error { return probeOnce(ctx, t, "its twin process fails") }

// Once has the twin spawn once.
func (t *Twin) Once(context.Context) (Sample, error) {
	if _, err := fmt.Fprintln(t.in, "s"); err != nil {
		return Sample{}, fmt.Errorf("bench: ask twin: %w", err)
	}
	var s Sample
	if _, err := fmt.Fscanln(t.out, (*int64)(&s.Ready), (*int64)(&s.Total)); err != nil {
		return Sample{}, fmt.Errorf("bench: twin ended or failed; see its message above: %w", err)
	}
	return s, nil
}

// ServeTwin is the twin's life: a spawn for each line of stdin.
func ServeTwin() (code int) {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w, err := NewWorkspace()
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err := w.Close(); err != nil && code == 0 {
			code = fail(err)
		}
	}()
	s := NewNative(w, Cold)
	if err := s.Probe(context.Background()); err != nil {
		return fail(err)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		sample, err := s.Once(ctx)
		cancel()
		if err != nil {
			return fail(err)
		}
		fmt.Println(int64(sample.Ready), int64(sample.Total))
	}
	return 0
}
