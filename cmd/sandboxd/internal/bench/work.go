package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/rootfs"
	"sandboxd/sandbox"
)

// WorkArg makes `sandboxd bench` the program that Works runs: see Work.
const WorkArg = "-work"

// Kinds of work. Idle is none: what an actor costs that waits.
const (
	Idle     = "idle"     // sleeps for a moment
	CPU      = "cpu"      // hashes 64 MiB in memory
	Syscalls = "syscalls" // asks for its parent's pid 20,000 times
	Files    = "files"    // makes, fills with 16 KiB, reads and removes 300 files in memory
)

var workKinds = []string{Idle, CPU, Syscalls, Files}

// Work does a kind of work, its files in dir, and prints the nanoseconds that it took.
func Work(kind, dir string) int {
	start := time.Now()
	var err error
	switch kind {
	case Idle:
		time.Sleep(100 * time.Millisecond)
	case CPU:
		b := make([]byte, 1<<20)
		for range 64 {
			sum := sha256.Sum256(b)
			copy(b, sum[:])
		}
	case Syscalls:
		for range 20_000 {
			unix.Getppid()
		}
	case Files:
		err = files(filepath.Join(dir, "work"))
	default:
		err = fmt.Errorf("no such work: %q", kind)
	}
	if err == nil {
		_, err = fmt.Println(time.Since(start).Nanoseconds())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandboxd: bench:", err)
		return 1
	}
	return 0
}

func files(name string) error {
	b := make([]byte, 16<<10)
	for range 300 {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
		got, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if len(got) != len(b) {
			return fmt.Errorf("%s: %d bytes of %d", name, len(got), len(b))
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// worker is one place in which the work is done.
type worker struct {
	name string
	do   func(ctx context.Context, kind string) (done, error)
}

// done is what one run of a program told.
type done struct {
	start  time.Duration // of the actor, 0: not known
	memory int64         // bytes charged to the actor at most, 0: not known
	took   time.Duration // by the program's own clock
}

// Place is what work costs in one place.
type Place struct {
	Name   string           `json:"name"`
	Start  Stats            `json:"start"`        // of an actor, cold, by its report; none for peers, which make no report
	Memory int64            `json:"memory_bytes"` // charged to an idle actor at most, median; 0: not known
	Ratios map[string]Ratio `json:"ratios"`       // by kind of work: its time to that without a sandbox
}

// Works has this same program do each kind of work in an actor of each backend,
// in peers, and without a sandbox, in turn. All have the root directory of the
// Workspace, and files in memory.
func Works(ctx context.Context, w *Workspace, self string, backends []string, rounds int) (places []Place, skipped []Skipped, err error) {
	h, err := sandbox.Open(sandbox.Options{})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	program := filepath.Join(w.root(), workName)
	if err := copyProgram(program, self); err != nil {
		return nil, nil, err
	}
	bare := worker{"bare", commandWork(program, "bench", WorkArg)}
	all := []worker{
		bare,
		{"runc", (&oci{w: w, name: "runc"}).work},
		{"bwrap", commandWork("bwrap", "--unshare-all", "--ro-bind", w.root(), "/", "--proc", "/proc", "--dev", "/dev", "--", "/"+workName, "bench", WorkArg)},
	}
	for _, b := range backends {
		all = append(all, worker{b, actorWork(h, b, w.root())})
	}
	var able []worker
	for _, p := range all {
		if _, err := p.do(ctx, Idle); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return nil, nil, cause
			}
			skipped = append(skipped, Skipped{"work in " + p.name, err.Error()})
			continue
		}
		able = append(able, p)
	}
	if len(able) == 0 || able[0].name != bare.name {
		return nil, nil, fmt.Errorf("bench: the program does not even run without a sandbox: %+v", skipped)
	}
	places, err = measureWorks(ctx, able, rounds)
	return places, skipped, err
}

// measureWorks takes the first worker for the base.
func measureWorks(ctx context.Context, workers []worker, rounds int) (places []Place, _ error) {
	type key struct{ place, kind string }
	took, starts, memory := map[key]Series{}, map[string]Series{}, map[string]Series{}
	for range rounds {
		for _, kind := range workKinds {
			for _, p := range workers {
				d, err := p.do(ctx, kind)
				if err != nil {
					return nil, fmt.Errorf("bench: work %s in %s: %w", kind, p.name, err)
				}
				took[key{p.name, kind}] = append(took[key{p.name, kind}], d.took)
				if d.start > 0 {
					starts[p.name] = append(starts[p.name], d.start)
				}
				if kind == Idle {
					memory[p.name] = append(memory[p.name], time.Duration(d.memory))
				}
			}
		}
	}
	for _, p := range workers {
		place := Place{Name: p.name, Start: starts[p.name].Stats(), Memory: int64(memory[p.name].Stats().Median), Ratios: map[string]Ratio{}}
		for _, kind := range workKinds[1:] {
			place.Ratios[kind] = took[key{p.name, kind}].RatioTo(took[key{workers[0].name, kind}])
		}
		places = append(places, place)
	}
	return places, nil
}

// workName is what the working program is called in the root that all share.
const workName = "work"

func copyProgram(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}

// actorWork works in an actor of a backend.
func actorWork(h *sandbox.Host, backend, root string) func(context.Context, string) (done, error) {
	return func(ctx context.Context, kind string) (done, error) {
		var out, errs bytes.Buffer
		s := sandbox.Spec{
			Backend: backend, Root: rootfs.Source{Kind: rootfs.Dir, Path: root}, Dir: "/tmp",
			Argv: []string{"/" + workName, "bench", WorkArg, kind, "."}, Stdout: &out, Stderr: &errs,
		}
		if backend == "process" { // it has no root of its own
			s = sandbox.This("bench", WorkArg, kind, ".")
			s.Backend, s.Peer, s.Stdout, s.Stderr = backend, false, &out, &errs
		}
		p, err := h.Start(ctx, s)
		if err != nil {
			return done{}, err
		}
		r, err := p.Wait(ctx)
		if err != nil {
			return done{}, err
		}
		if r.Exit.Code != 0 {
			return done{}, fmt.Errorf("%s %s: %s", r.Exit.Reason, r.Exit.Detail, errs.String())
		}
		d, err := parseWork(out.Bytes())
		d.start, d.memory = r.Spawn.Total, r.Usage.MemoryPeak
		return d, err
	}
}

// commandWork works in a command that ends in the program's own arguments but for kind and directory.
func commandWork(name string, args ...string) func(context.Context, string) (done, error) {
	return func(ctx context.Context, kind string) (done, error) {
		return output(ctx, name, append(slices.Clip(args), kind, "/dev/shm")...)
	}
}

// work works in a container of a bundle that says so.
func (o *oci) work(ctx context.Context, kind string) (done, error) {
	if o.c.path == "" {
		if err := o.Probe(ctx); err != nil {
			return done{}, err
		}
	}
	bundle, id, err := o.take()
	if err != nil {
		return done{}, err
	}
	name := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(name)
	if err != nil {
		return done{}, err
	}
	args, err := json.Marshal([]string{"/" + workName, "bench", WorkArg, kind, "/dev"}) // a tmpfs
	if err != nil {
		return done{}, err
	}
	text = bytes.Replace(text, fmt.Appendf(nil, `["/%s"]`, tinyName), args, 1)
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return done{}, err
	}
	return output(ctx, o.c.path, o.args(bundle, id)...)
}

func output(ctx context.Context, name string, args ...string) (done, error) {
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return done{}, fmt.Errorf("%s: %w: %s", name, err, errs.String())
	}
	return parseWork(out)
}

func parseWork(out []byte) (done, error) {
	ns, err := strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64)
	if err != nil || ns <= 0 {
		return done{}, fmt.Errorf("the program printed %.80q; want nanoseconds", out)
	}
	return done{took: time.Duration(ns)}, nil
}
