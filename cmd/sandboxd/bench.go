package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"sandboxd/cmd/sandboxd/internal/bench"
	"sandboxd/sandbox"
)

const benchUsage = `Usage: sandboxd bench [flags]

Measures spawns beside the other sandboxes found on this host, in interleaved
rounds, and prints the contracts with what was measured. Most of it needs root.

  --rounds N     rounds of the interleaved run (default 100)
  --live N       actors alive at once (default 1000)
  --leak N       spawns of the leak count (default 1000; 0: leave it out)
  --only LIST    parts to run: spawn, heap, idle, live, rate, death, talk, work, leak (default all)
  --json         print the table as JSON

Exit code: 0 all contracts that could be measured hold; 1 some do not; 125 the
run failed.
`

type benchOptions struct {
	rounds, live, leak int
	only               string
	json               bool
	seed               uint64 // one for all runs, so that the one printed says it all
}

// benchmark is `sandboxd bench`.
func benchmark(args []string, _ io.Reader, out, errs io.Writer) int {
	if len(args) == 1 && args[0] == bench.TwinArg {
		return bench.ServeTwin()
	}
	if len(args) == 2 && args[0] == bench.TalkArg {
		return bench.ServeTalk(args[1])
	}
	if len(args) == 3 && args[0] == bench.WorkArg {
		return bench.Work(args[1], args[2])
	}
	var o benchOptions
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 100, "")
	f.IntVar(&o.live, "live", 1000, "")
	f.IntVar(&o.leak, "leak", 1000, "")
	f.StringVar(&o.only, "only", strings.Join(benchParts, ","), "")
	f.BoolVar(&o.json, "json", false, "")
	if code, goOn := parseAlone(f, benchUsage, args, out, errs); !goOn {
		return code
	}
	if err := o.check(); err != nil {
		fmt.Fprintf(errs, "sandboxd: bench: %v; see sandboxd bench --help\n", err)
		return exitOurs
	}
	o.seed = uint64(time.Now().UnixNano())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	table, err := o.run(ctx, errs, "sandboxd bench "+strings.Join(args, " "))
	if err != nil {
		fmt.Fprintf(errs, "sandboxd: bench: %v\n", err)
		return exitOurs
	}
	print := table.WriteText
	if o.json {
		print = table.WriteJSON
	}
	if err := print(out); err != nil {
		fmt.Fprintf(errs, "sandboxd: bench: %v\n", err)
		return exitOurs
	}
	if table.Missed() > 0 {
		return 1
	}
	return 0
}

// benchParts are the values of --only.
var benchParts = []string{"spawn", "heap", "idle", "live", "rate", "death", "talk", "work", "leak"}

// maxLive is about what one launcher has room for.
const maxLive = 4000

func (o *benchOptions) check() error {
	for part := range strings.SplitSeq(o.only, ",") {
		if !slices.Contains(benchParts, part) {
			return fmt.Errorf("--only: no part is called %q; want some of %s", part, strings.Join(benchParts, ","))
		}
	}
	switch {
	case o.rounds < 1:
		return fmt.Errorf("--rounds %d: want at least 1", o.rounds)
	case o.live < 1 || o.live > maxLive:
		return fmt.Errorf("--live %d: want 1 to %d", o.live, maxLive)
	case o.leak < 0:
		return fmt.Errorf("--leak %d: want 0 or more", o.leak)
	}
	return nil
}

func (o *benchOptions) run(ctx context.Context, errs io.Writer, command string) (_ *bench.Table, err error) {
	w, err := bench.NewWorkspace()
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cold, pooled, parked := bench.NewNative(w, bench.Cold), bench.NewNative(w, bench.Pooled), bench.NewNative(w, bench.Parked)
	bare := bench.NewBare(w, bench.BareOptions{Template: true}) // as our launcher, it lives in the root
	runc, bwrap := bench.NewRunc(w), bench.NewBwrap(w)
	spawners := []bench.Subject{
		cold, pooled, parked, bare, bench.NewBare(w, bench.BareOptions{}), bench.NewBare(w, bench.BareOptions{Template: true, Pooled: true}),
		bench.NewContainer(w), bwrap, runc, bench.NewCrun(w), bench.NewExec(w), bench.NewExecNamespaces(w),
	}
	wasm, err := bench.NewWasmCommand(w, self)
	if err != nil {
		return nil, err
	}
	commands := []bench.Subject{bench.NewCommand("sandboxd run", self, "run", "--", "/bin/true"), bench.NewBwrapCommand(), runc, bench.NewCommand("sandboxd run container", self, "run", "--backend", "container", "--", "/bin/true"), wasm}
	table := bench.NewTable(bench.HostFacts(ctx, spawners), strings.TrimSpace(command))
	has := func(part string) bool { return slices.Contains(strings.Split(o.only, ","), part) }
	say := func(format string, a ...any) { fmt.Fprintf(errs, "sandboxd: bench: "+format+"\n", a...) }
	for _, p := range []struct {
		part  string
		needs bench.Subject // without it the part cannot be measured; nil: it says so itself
		run   func() error
	}{
		{"spawn", nil, func() error {
			say("%d interleaved rounds of spawns", o.rounds)
			return o.spawns(ctx, table, spawners)
		}},
		{"spawn", nil, func() error {
			say("%d interleaved rounds of whole commands", o.rounds)
			return o.commands(ctx, table, commands)
		}},
		{"heap", cold, func() error {
			say("%d rounds with a heap of 1 GiB", o.rounds)
			return o.heap(ctx, table, w, self)
		}},
		{"idle", nil, func() error {
			say("spawns %v apart", bench.IdleGap)
			run, err := bench.Interleave(ctx, []bench.Subject{cold, bwrap}, bench.Options{Rounds: max(o.rounds/5, 1), Gap: bench.IdleGap, Seed: o.seed})
			if err != nil {
				return err
			}
			table.Rows = append(table.Rows, run.Ratio("idle", "native cold after 250 ms without cgroup use, to bwrap", bench.Ready, cold.Name(), "bwrap", 1/3.))
			return nil
		}},
		{"live", cold, func() error {
			say("%d live actors", o.live)
			return o.lives(ctx, table, cold, bare)
		}},
		{"rate", cold, func() error {
			say("spawns a second, 1 to 32 in flight")
			for _, s := range []bench.Subject{cold, pooled} {
				if err := s.Probe(ctx); err != nil {
					return err
				}
				rates, err := bench.Concurrency(ctx, s, 2*time.Second, 1, 4, 16, 32)
				if err != nil {
					return err
				}
				table.Rates = append(table.Rates, rates...)
			}
			return nil
		}},
		{"death", cold, func() error {
			say("boot deaths and kills")
			return o.deaths(ctx, table, cold)
		}},
		{"talk", cold, func() error {
			say("calls and cancels")
			talk, err := bench.Talk(ctx, w, o.rounds)
			if err != nil {
				return err
			}
			cancels, err := bench.Cancels(ctx, o.rounds)
			table.Rows = append(append(table.Rows, talk...), cancels...)
			return err
		}},
		{"work", nil, func() error {
			say("work in every backend")
			places, skipped, err := bench.Works(ctx, w, self, sandbox.Backends(), max(o.rounds/10, 3))
			table.Places, table.Skipped = places, append(table.Skipped, skipped...)
			return err
		}},
		{"leak", nil, func() error {
			if o.leak == 0 {
				return nil
			}
			say("%d spawns, a SIGKILL at every tenth", o.leak)
			leaks, struck, err := bench.LeakRun(ctx, self, o.leak)
			if err != nil {
				return err
			}
			table.Leaks = leaks
			table.Rows = append(table.Rows, bench.AtMost("leak", fmt.Sprintf("left after %d spawns, %d of them ended by a SIGKILL", o.leak, struck), bench.Things, float64(bench.Leaked(leaks)), 0, ""))
			return nil
		}},
	} {
		if !has(p.part) {
			continue
		}
		if p.needs != nil {
			if err := p.needs.Probe(ctx); err != nil {
				table.Skipped = append(table.Skipped, bench.Skipped{Name: "part " + p.part, Reason: err.Error()})
				continue
			}
		}
		if err := p.run(); err != nil {
			return nil, err
		}
	}
	return table, nil
}

func (o *benchOptions) spawns(ctx context.Context, t *bench.Table, subjects []bench.Subject) error {
	run, err := bench.Interleave(ctx, subjects, bench.Options{Rounds: o.rounds, Seed: o.seed})
	if err != nil {
		return err
	}
	t.AddRun(run, "bwrap")
	for _, c := range []struct {
		id, text, subject, base string
		limit                   float64
	}{
		{"cold/bwrap", "native cold, every filter, to Ready: of bwrap --unshare-all", "sandboxd cold", "bwrap", 1 / 3.},
		{"cold/runc", "native cold: of runc run", "sandboxd cold", "runc", 1 / 15.},
		{"cold/bare", "native cold: of a bare C program doing the same", "sandboxd cold", "bare template", 1.5},
		{"pooled/bwrap", "native with pooled netns and cgroup: of bwrap", "sandboxd pooled", "bwrap", 1 / 6.},
		{"container/runc", "container cold, every filter, to Ready: of runc run", "container cold", "runc", 1.1},
		{"parked/bwrap", "native from a parked sandbox: of bwrap", "sandboxd parked", "bwrap", 1 / 15.},
	} {
		t.Rows = append(t.Rows, run.Ratio(c.id, c.text, bench.Ready, c.subject, c.base, c.limit))
	}
	return nil
}

// heap compares this process, which then has a heap of 1 GiB, with a twin that has none.
func (o *benchOptions) heap(ctx context.Context, t *bench.Table, w *bench.Workspace, self string) error {
	twin, err := bench.NewTwin(w, self)
	if err != nil {
		return err
	}
	ballast, err := bench.NewBallast(1 << 30)
	if err != nil {
		return err
	}
	own := bench.NewNative(w, bench.Cold)
	run, err := bench.Interleave(ctx, []bench.Subject{own, twin}, bench.Options{Rounds: o.rounds, Seed: o.seed})
	if err := errors.Join(err, ballast.Free()); err != nil {
		return err
	}
	t.Rows = append(t.Rows, run.Ratio("heap/cold", "native cold with a heap of 1 GiB: of a twin process without", bench.Ready, own.Name(), twin.Name(), 1.1))
	return nil
}

func (o *benchOptions) commands(ctx context.Context, t *bench.Table, subjects []bench.Subject) error {
	run, err := bench.Interleave(ctx, subjects, bench.Options{Rounds: o.rounds, Seed: o.seed})
	if err != nil {
		return err
	}
	t.AddRun(run, subjects[1].Name())
	t.Rows = append(t.Rows,
		run.Ratio("command/bwrap", "the whole command, start to exit: of bwrap … /bin/true", bench.Total, subjects[0].Name(), subjects[1].Name(), 1.5),
		run.Ratio("command/runc", "the whole command: of runc run", bench.Total, subjects[0].Name(), subjects[2].Name(), 1/4.),
		run.Ratio("command-container/runc", "the whole command with --backend container: of runc run", bench.Total, subjects[3].Name(), subjects[2].Name(), 1.1))
	return nil
}

func (o *benchOptions) lives(ctx context.Context, t *bench.Table, own *bench.Native, bare *bench.Bare) error {
	ours, err := bench.ReachLive(ctx, own, o.live, 4)
	if err != nil {
		return err
	}
	t.Crowds = append(t.Crowds, ours)
	perActor := float64(ours.Memory.Sum())
	t.Rows = append(t.Rows, bench.AtMost("live/memory", "memory of one of them, idle, all in", bench.Bytes, perActor, 0.6*(1<<20), ""))
	const text = "time to reach them, 4 in flight: of the bare C program's, in a row"
	if err := bare.Probe(ctx); err != nil {
		t.Rows = append(t.Rows, bench.NotMeasured("live/bare", text, bench.Times, 1, err.Error()))
		return nil
	}
	theirs, err := bare.Live(ctx, o.live)
	if err != nil {
		return err
	}
	t.Crowds = append(t.Crowds, theirs)
	t.Rows = append(t.Rows, bench.AtMost("live/bare", text, bench.Times, float64(ours.Reach)/float64(theirs.Reach), 1,
		fmt.Sprintf("%d actors: %v, bare %v", o.live, ours.Reach.Round(time.Millisecond), theirs.Reach.Round(time.Millisecond))))
	return nil
}

func (o *benchOptions) deaths(ctx context.Context, t *bench.Table, s *bench.Native) error {
	for _, c := range []struct {
		id, text string
		once     func(context.Context) (time.Duration, error)
	}{
		{"boot-death", "boot death known to the waiter, with a pooled netns", s.BootDeath},
		{"kill", "kill of an actor to its cgroup proved empty and removed", s.Cancel},
	} {
		var series bench.Series
		for range max(o.rounds, 20) {
			d, err := c.once(ctx)
			if err != nil {
				return err
			}
			series = append(series, d)
		}
		st := series.Stats()
		note := fmt.Sprintf("median %v", st.Median.Round(time.Microsecond))
		t.Rows = append(t.Rows, bench.AtMost(c.id+"/p95", c.text+", p95", bench.Nanoseconds, float64(st.P95), 2e6, note),
			bench.AtMost(c.id+"/max", c.text+", worst", bench.Nanoseconds, float64(st.Max), 5e6, ""))
	}
	return nil
}
