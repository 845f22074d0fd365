package abuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/namespaces/landlock"
	"sandboxd/rootfs"
	"sandboxd/sandbox"
	"sandboxd/sandbox/cgroup"
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Options of a Suite.
type Options struct {
	Backends []string // whose columns to run; nil: all that work here and are not slow
	Only     []string // classes or IDs; nil: all
	Control  bool     // show of each case that it can fail
	Victim   bool     // measure a neighbour beside the bombs
}

// Suite is the cases, ready to run on this host.
type Suite struct {
	options Options
	host    *sandbox.Host
	dir     string          // of the suite, reachable by all
	copy    string          // of this program, for controls, which may change it
	held    map[string]bool // what this host has, beside its backends
	noted   error           // the last refusal, for people
}

// Backends are those that have a column.
func Backends() (names []string) {
	for _, c := range columns() {
		names = append(names, c.backend)
	}
	return names
}

// Open prepares a Suite. The caller closes it.
func Open(o Options) (_ *Suite, err error) {
	for _, b := range o.Backends {
		if !slices.Contains(Backends(), b) {
			return nil, fmt.Errorf("no backend is called %q; want some of %s", b, strings.Join(Backends(), ","))
		}
	}
	if o.Only != nil && len(choose(o.Only)) == 0 {
		return nil, fmt.Errorf("no case and no class is called %s", strings.Join(o.Only, " or "))
	}
	s := &Suite{options: o, held: map[string]bool{}}
	if s.dir, err = os.MkdirTemp("", "sandboxd-selftest-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err = os.Chmod(s.dir, 0o755); err != nil {
		return nil, err
	}
	s.copy = filepath.Join(s.dir, "attacker")
	if err = copyProgram(s.copy); err != nil {
		return nil, err
	}
	if s.host, err = sandbox.Open(sandbox.Options{}); err != nil {
		return nil, err
	}
	if abi, err := landlock.ABI(); err == nil {
		s.held["landlock-truncate"], s.held["landlock-scopes"] = abi >= 3, abi >= 6
	}
	s.held["root"], s.held["exec-seals"] = namespaces.Privileged(), execSeals()
	if host, err := cgroup.Detect(); err == nil {
		for c, name := range map[cgroup.Controller]string{cgroup.Memory: "cgroup-memory", cgroup.PIDs: "cgroup-pids", cgroup.CPU: "cgroup-cpu", cgroup.CPUTime: "cgroup-cpu-time"} {
			s.held[name] = host.Has(c) == nil
		}
	}
	return s, nil
}

// execSeals tells whether the kernel can seal the exec bits of a memory file.
func execSeals() bool {
	fd, err := unix.MemfdCreate("sandboxd-selftest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_EXEC)
	return err == nil
}

func copyProgram(to string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close(), os.Chmod(to, 0o755))
}

// Close ends what is left, and removes the suite's directory.
func (s *Suite) Close() error {
	var err error
	if s.host != nil {
		err = s.host.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Suite) note(err error) { s.noted = err }

// choose gives the cases of classes and IDs; nil: all.
func choose(only []string) (chosen []Case) {
	for _, c := range Cases() {
		if only == nil || slices.Contains(only, c.ID) || slices.Contains(only, c.Class()) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// Run runs every case on every backend. The error says that the suite could
// not run; what the sandboxes did is in the Matrix.
func (s *Suite) Run(ctx context.Context) (*Matrix, error) {
	m := &Matrix{Schema: Schema, Cases: []Row{}, Neighbours: []Neighbour{}}
	var cols []column
	has := map[string]func(string) bool{}
	for _, col := range columns() {
		if s.options.Backends == nil && col.slow > 0 {
			m.Skipped = append(m.Skipped, Skipped{col.backend, "it is slow; name it to have it attacked"})
			continue
		}
		if s.options.Backends != nil && !slices.Contains(s.options.Backends, col.backend) {
			continue
		}
		b, err := s.host.Backend(col.backend)
		if err != nil {
			return nil, err
		}
		held := b.Probe(ctx)
		if err := held.Hold(); err != nil {
			if s.options.Backends != nil {
				return nil, fmt.Errorf("the backend %s does not work here: %w", col.backend, err)
			}
			m.Skipped = append(m.Skipped, Skipped{col.backend, "it does not work here: " + err.Error()})
			continue
		}
		cols, m.Backends = append(cols, col), append(m.Backends, col.backend)
		has[col.backend] = func(what string) bool {
			if fact, own := col.facts[what]; own {
				return fact
			}
			if what == "own-ids" { // for the init, and for the program
				what = map[bool]string{true: "root", false: string(spawn.TwoIDs)}[s.held["root"]]
			}
			why, known := held[spawn.Feature(what)]
			return known && why == nil || s.held[what]
		}
	}
	if len(cols) == 0 {
		err := errors.New("no backend works here; see sandboxd doctor")
		for _, s := range m.Skipped {
			err = fmt.Errorf("%w; %s: %s", err, s.Backend, s.Why)
		}
		return nil, err
	}
	if i := slices.IndexFunc(m.Backends, func(b string) bool { return sandbox.Reaches(b) != sandbox.FloorProcess }); i >= 0 {
		spec := (&stage{column: columnOf(m.Backends[i])}).this("started")
		spec.Mounts = []rootfs.Mount{{Source: s.dir, Target: "/data"}}
		p, err := s.host.Start(ctx, spec)
		if err == nil {
			_, err = p.Wait(ctx)
		}
		s.held["idmapped-mounts"] = !cannotMap(err)
	}
	chosen := choose(s.options.Only)
	for i := range chosen {
		c := &chosen[i]
		row := Row{ID: c.ID, Says: c.Says, Ref: c.Ref}
		for _, col := range cols {
			cell, err := s.cell(ctx, c, &col, has[col.backend])
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", c.ID, col.backend, err)
			}
			row.Cells = append(row.Cells, cell)
		}
		if s.options.Control {
			row.Control = s.control(ctx, c, cols[0].backend, row.Cells[0].Want)
		}
		m.Cases = append(m.Cases, row)
	}
	if s.options.Victim {
		return m, s.neighbours(ctx, m, chosen)
	}
	return m, nil
}

// cell runs a case on a backend.
func (s *Suite) cell(ctx context.Context, c *Case, col *column, has func(string) bool) (cell Cell, err error) {
	want := col.want(c)
	cell = Cell{Backend: col.backend, Declared: want}
	if cell.Want, err = expect(want, has); err != nil {
		return cell, err
	}
	for range 3 { // an attack that did not come about says nothing of the sandbox
		if cell.Outcome, err = s.attack(ctx, c, col.backend, nil); err != nil || !strings.HasPrefix(cell.Outcome, "failed: ") {
			break
		}
	}
	if err != nil {
		cell.Outcome = "failed: " + err.Error()
	}
	cell.Surprise = !within(cell.Outcome, cell.Want)
	cell.Open = !cell.Surprise && cell.Outcome == Through
	if cell.Surprise && s.noted != nil && cell.Outcome == "refused" {
		cell.Detail = s.noted.Error()
	}
	return cell, ctx.Err()
}

// begin makes the stage of a run.
func (s *Suite) begin(ctx context.Context, backend string) (*stage, error) {
	dir, err := os.MkdirTemp(s.dir, "stage-")
	if err != nil {
		return nil, err
	}
	st := &stage{ctx: ctx, suite: s, column: columnOf(backend), dir: dir, spec: &sandbox.Spec{}}
	st.after(func() { _ = os.RemoveAll(dir) }) // Close removes what cannot be removed now
	return st, os.Chmod(dir, 0o755)
}

// attack runs a case in a sandbox; opened, if not nil, takes the wall away first.
func (s *Suite) attack(ctx context.Context, c *Case, backend string, opened func(*sandbox.Spec)) (string, error) {
	st, err := s.begin(ctx, backend)
	if err != nil {
		return "", err
	}
	defer st.close()
	s.noted = nil
	if c.Run != nil {
		return c.Run(st)
	}
	spec := st.this(c.ID)
	st.spec = &spec
	if c.Stage != nil {
		if err := c.Stage(st); err != nil {
			return "", fmt.Errorf("prepare: %w", err)
		}
	}
	if opened != nil {
		opened(&spec)
	}
	if spec.Limits.Memory > 0 {
		spec.Limits.Memory += st.memory
	}
	spec.Argv = append(spec.Argv, st.args...)
	var out bytes.Buffer
	spec.Stdout = &out
	p, err := s.host.Start(ctx, spec)
	if err != nil {
		s.note(err)
		if errors.Is(err, sandbox.ErrUnenforceable) || refusedByGate(err) || cannotMap(err) {
			return "refused", nil
		}
		return "", err
	}
	r, err := p.Wait(ctx)
	if err != nil {
		return "", err
	}
	said := strings.TrimSpace(out.String())
	if i := strings.LastIndexByte(said, '\n'); i >= 0 {
		said = said[i+1:]
	}
	got := said
	switch r.Exit.Reason {
	case sandbox.Exited:
		if r.Exit.Code > 1 || said == "" {
			got = "exited" // it broke down, such as for want of a thread
		}
	case sandbox.Signaled:
		got = r.Exit.Signal
	default:
		got = string(r.Exit.Reason)
	}
	if c.Judge != nil {
		got = c.Judge(st, got, r)
	}
	return got, nil
}

// cannotMap tells whether it is about the file system that the suite's directory is on.
func cannotMap(err error) bool {
	step, ok := errors.AsType[*spawn.StepError](err)
	return ok && step.Step == plan.Idmap && step.Errno == unix.EINVAL
}

func refusedByGate(err error) bool {
	_, ok := errors.AsType[*spawn.Gate](err)
	return ok
}

// control runs a case where nothing should stop it. It is shown to be able to
// fail if the outcome is not one that the sandbox is declared to bring about.
func (s *Suite) control(ctx context.Context, c *Case, backend string, want []string) Control {
	if c.NoControl != "" {
		return Control{Why: c.NoControl}
	}
	if c.Run == nil && slices.Contains(want, Through) {
		return Control{Why: "it gets through: nothing is there to be taken away"}
	}
	var got string
	var err error
	switch {
	case c.Run != nil:
		var st *stage
		if st, err = s.begin(ctx, backend); err == nil {
			st.control = true
			got, err = c.Run(st)
			st.close()
		}
	case c.Opened != nil:
		got, err = s.attack(ctx, c, backend, c.Opened)
	default:
		got, err = s.outside(ctx, c)
	}
	if err != nil {
		return Control{Outcome: "failed: " + err.Error()}
	}
	return Control{Outcome: got, Shown: !within(got, want) && !strings.HasPrefix(got, "failed: ")}
}

// outside runs an attack without a sandbox, where it can do no harm.
func (s *Suite) outside(ctx context.Context, c *Case) (string, error) {
	st, err := s.begin(ctx, "")
	if err != nil {
		return "", err
	}
	defer st.close()
	st.bare = true
	if c.Stage != nil {
		if err := c.Stage(st); err != nil {
			return "", fmt.Errorf("prepare: %w", err)
		}
	}
	spaces := uintptr(unix.CLONE_NEWUTS)
	if !c.OnHost {
		spaces |= unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP
	}
	cmd := st.outside(spaces, append([]string{c.ID}, st.args...)...)
	out, err := cmd.Output()
	got := strings.TrimSpace(string(out))
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := exit.Sys().(unix.WaitStatus); ok && ws.Signaled() {
			got = unix.SignalName(ws.Signal())
		}
	} else if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", err
	}
	if c.Judge != nil {
		got = c.Judge(st, got, nil)
	}
	return got, nil
}
