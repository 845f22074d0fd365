package bench

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed bare.c
var bareSource string

// BareOptions choose the variant of the bare C program.
type BareOptions struct {
	// Template has the program live in the template root, so that a spawn needs
	// no pivot_root(2). Zero: the host's mount table is copied and left each time.
	Template bool
	// Pooled shares one network namespace and a few cgroups that were made
	// before. Zero: fresh ones each time.
	Pooled bool
}

// Bare is the floor: the system calls of a cold spawn in a straight line of C,
// compiled when it is probed. It times itself, so Go's part is not in it.
type Bare struct {
	w      *Workspace
	o      BareOptions
	binary string
	args   []string

	mu   sync.Mutex
	idle []*bareProcess // guarded by mu, like made
	made int
}

// NewBare is one variant; the others are other subjects.
func NewBare(w *Workspace, o BareOptions) *Bare { return &Bare{w: w, o: o} }

// Name is "bare" and the variant.
func (b *Bare) Name() string {
	name := "bare"
	if b.o.Template {
		name += " template"
	}
	if b.o.Pooled {
		name += " pooled"
	}
	return name
}

// Version is that of the compiler.
func (b *Bare) Version(ctx context.Context) (string, error) {
	return firstLine(ctx, "gcc", "--version")
}

// Probe compiles the program, makes the cgroup folders and spawns once.
func (b *Bare) Probe(ctx context.Context) error {
	absent := func(reason string, err error) error { return &AbsentError{b.Name(), reason, err} }
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return absent("install gcc and the static C library", err)
	}
	if os.Geteuid() != 0 {
		return absent("it makes cgroups and maps other ids; run as root", nil)
	}
	all, err := hierarchies()
	if err != nil {
		return absent("cgroups are needed", err)
	}
	folders, err := limitFolders(all, b.w.folder)
	if err != nil {
		return absent("cgroup limits are needed", err)
	}
	b.args = []string{"-program", b.w.program()}
	for key, dir := range folders {
		b.args = append(b.args, "-"+key, dir)
	}
	if b.o.Template {
		b.args = append(b.args, "-template")
	}
	if b.o.Pooled {
		b.args = append(b.args, "-pooled")
	}
	source := filepath.Join(b.w.dir, "bare.c")
	b.binary = filepath.Join(b.w.dir, "bare")
	if _, err := os.Stat(b.binary); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(source, []byte(bareSource), 0o644); err != nil {
			return absent("its source cannot be written", err)
		}
		if out, err := exec.CommandContext(ctx, gcc, "-O2", "-static", "-o", b.binary, source).CombinedOutput(); err != nil {
			return absent("it does not compile; install the static C library and current kernel headers: "+string(out), err)
		}
	}
	return probeOnce(ctx, b, "its spawn fails")
}

// Once has an idle process of the program spawn once; there are as many
// processes as calls at a time.
func (b *Bare) Once(ctx context.Context) (Sample, error) {
	p, err := b.take(ctx)
	if err != nil {
		return Sample{}, err
	}
	t, err := p.ask("s")
	if err != nil {
		return Sample{}, err
	}
	b.put(p)
	return Sample{Ready: t[0], Total: t[1]}, nil
}

// Live reaches n live actors in a row, one spawn at a time, and kills them
// again. Its spawns are not timed one by one.
func (b *Bare) Live(ctx context.Context, n int) (c Crowd, err error) {
	c = Crowd{Name: b.Name(), Actors: n, InFlight: 1}
	p, err := b.take(ctx)
	if err != nil {
		return c, err
	}
	before, err := settledMemory(ctx)
	if err != nil {
		b.put(p)
		return c, err
	}
	t, err := p.ask(fmt.Sprintf("l %d", n))
	if err != nil {
		return c, err
	}
	c.Reach = t[0]
	pids, err := children(p.cmd.Process.Pid)
	if err == nil {
		c.Memory, err = memoryPerActor(before, n, pids)
	}
	t, killErr := p.ask("k")
	if killErr == nil {
		c.Gone = t[0]
		b.put(p)
	}
	return c, errors.Join(err, killErr)
}

// children lists the direct children of a process, as we see them; see
// proc_pid_task(5).
func children(pid int) (pids []int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, fmt.Errorf("bench: find the actors: %w; the kernel needs CONFIG_PROC_CHILDREN", err)
	}
	for f := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("bench: children of process %d: %w", pid, err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}

func (b *Bare) put(p *bareProcess) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle = append(b.idle, p)
}

func (b *Bare) take(ctx context.Context) (*bareProcess, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.idle); n > 0 {
		p := b.idle[n-1]
		b.idle = b.idle[:n-1]
		return p, nil
	}
	b.made++
	p, err := b.start(filepath.Join(b.w.dir, fmt.Sprintf("%s-%d", strings.ReplaceAll(b.Name(), " ", "-"), b.made)))
	if err != nil {
		return nil, fmt.Errorf("bench: start the bare C program: %w", err)
	}
	return p, b.w.onClose(p.close)
}

// bareProcess is one running program. It is PID 1 of a pid namespace, so that
// nothing of it outlives it, and it ends when its input does.
type bareProcess struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	outEnd *os.File
	stderr *os.File
}

func (b *Bare) start(dir string) (*bareProcess, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	stderr, err := memfd()
	if err != nil {
		return nil, err
	}
	p := &bareProcess{cmd: exec.Command(b.binary, append(b.args, "-dir", dir)...), stderr: stderr}
	p.cmd.Stderr = stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setpgid: true}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		stderr.Close()
		return nil, err
	}
	r, w, err := os.Pipe()
	if err == nil {
		p.cmd.Stdout, p.out, p.outEnd = w, bufio.NewReader(r), r
		err = p.cmd.Start()
		w.Close()
	}
	if err != nil {
		return nil, errors.Join(err, p.in.Close(), stderr.Close(), r.Close())
	}
	return p, nil
}

// ask sends a command and reads the times it answers.
func (p *bareProcess) ask(command string) (t [2]time.Duration, err error) {
	fail := func(err error) ([2]time.Duration, error) {
		return t, fmt.Errorf("bench: the bare C program: %w: %s", err, p.said())
	}
	if err := p.outEnd.SetReadDeadline(time.Now().Add(10 * spawnTimeout)); err != nil {
		return fail(err)
	}
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		return fail(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return fail(err)
	}
	if n, err := fmt.Sscan(line, &t[0], &t[1]); n == 0 {
		return fail(err)
	}
	return t, nil
}

func (p *bareProcess) said() string {
	text := make([]byte, 2048)
	n, _ := p.stderr.ReadAt(text, 0) // short reads are the normal case
	return strings.TrimSpace(string(text[:n]))
}

// close ends the program in order. If it hangs it is killed, and the kernel
// kills its actors; their cgroups are then the workspace's to sweep.
func (p *bareProcess) close() error {
	late := time.AfterFunc(spawnTimeout, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	err := p.in.Close()
	waitErr := p.cmd.Wait()
	if waitErr != nil {
		waitErr = fmt.Errorf("bench: the bare C program: %w: %s", waitErr, p.said())
	}
	return errors.Join(err, waitErr, p.outEnd.Close(), p.stderr.Close())
}
