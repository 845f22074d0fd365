package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// IdleGap lets the kernel forget that cgroups were in use: after it, whoever
// moves a process by pid waits for a grace period again.
const IdleGap = 250 * time.Millisecond

// Options of a run. The zero value is the one that contracts are measured with.
type Options struct {
	Rounds int           // 0: 100
	Warmup int           // rounds that are not counted; 0: 3, negative: none
	Gap    time.Duration // pause before each spawn; 0: 1.5 ms, negative: none
	Seed   uint64        // of the order within rounds; 0: from the clock
	// Progress, if not nil, is called after each round, from 1 to of.
	Progress func(round, of int)
}

func (o Options) withDefaults() Options {
	if o.Rounds <= 0 {
		o.Rounds = 100
	}
	if o.Warmup == 0 {
		o.Warmup = 3
	}
	o.Warmup = max(o.Warmup, 0)
	if o.Gap == 0 {
		o.Gap = 1500 * time.Microsecond
	}
	o.Gap = max(o.Gap, 0)
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	return o
}

// Run is what one interleaved run measured.
type Run struct {
	Options Options   // as they were after defaults
	Results []Result  // in the order of the subjects
	Skipped []Skipped // those whose Probe failed
}

// Result holds the samples of one subject; index is the round.
type Result struct {
	Name         string
	Ready, Total Series
}

// Skipped is a subject that was not measured.
type Skipped struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Interleave probes the subjects and then measures those that work, in rounds;
// within a round each spawns once, in random order. A spawn that fails ends the
// run with an error, since what the others then show is no comparison. When ctx
// ends, the spawn in flight is finished first. Subjects that can be closed stay
// open: they belong to the caller or to its Workspace.
func Interleave(ctx context.Context, subjects []Subject, o Options) (*Run, error) {
	run := &Run{Options: o.withDefaults()}
	o = run.Options
	var live []Subject
	for _, s := range subjects {
		err := s.Probe(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("bench: probe %s: %w", s.Name(), cause)
		}
		if err != nil {
			run.Skipped = append(run.Skipped, Skipped{s.Name(), err.Error()})
			continue
		}
		if run.find(s.Name()) != nil {
			return nil, fmt.Errorf("bench: two subjects are called %q; name one differently", s.Name())
		}
		live = append(live, s)
		run.Results = append(run.Results, Result{Name: s.Name(), Ready: make(Series, o.Rounds), Total: make(Series, o.Rounds)})
	}
	if len(live) == 0 {
		return nil, fmt.Errorf("bench: nothing can be measured here: %w", errors.Join(reasons(run.Skipped)...))
	}
	order := rand.New(rand.NewPCG(o.Seed, 0))
	for round := -o.Warmup; round < o.Rounds; round++ {
		for _, i := range order.Perm(len(live)) {
			if err := pause(ctx, o.Gap); err != nil {
				return nil, fmt.Errorf("bench: round %d: %w", round+1, err)
			}
			s, err := live[i].Once(ctx)
			if err != nil {
				return nil, fmt.Errorf("bench: round %d: spawn by %s: %w", round+1, live[i].Name(), err)
			}
			if round >= 0 {
				run.Results[i].Ready[round], run.Results[i].Total[round] = s.Ready, s.Total
			}
		}
		if round >= 0 && o.Progress != nil {
			o.Progress(round+1, o.Rounds)
		}
	}
	return run, nil
}

func reasons(skipped []Skipped) (errs []error) {
	for _, s := range skipped {
		errs = append(errs, errors.New(s.Reason))
	}
	return errs
}

func (r *Run) find(name string) *Result {
	for i := range r.Results {
		if r.Results[i].Name == name {
			return &r.Results[i]
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}
