package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fake takes the time it is told, and records when it was called.
type fake struct {
	name   string
	absent error
	fails  error
	log    *[]string
	now    atomic.Int64 // spawns in flight
	peak   atomic.Int64
	live   atomic.Int64

	mu sync.Mutex
	n  int // guarded by mu
}

func (f *fake) Name() string                { return f.name }
func (f *fake) Probe(context.Context) error { return f.absent }

func (f *fake) Once(context.Context) (Sample, error) {
	f.mu.Lock()
	f.n++
	n := f.n
	if f.log != nil {
		*f.log = append(*f.log, f.name)
	}
	f.mu.Unlock()
	f.peak.Store(max(f.peak.Load(), f.now.Add(1)))
	time.Sleep(10 * time.Millisecond)
	f.now.Add(-1)
	return Sample{time.Duration(n), time.Duration(n) * 2}, f.fails
}

func (f *fake) Start(ctx context.Context) (Live, error) {
	s, err := f.Once(ctx)
	if err != nil {
		return Live{}, err
	}
	f.live.Add(1)
	return Live{Ready: s.Ready, Stop: func() error { f.live.Add(-1); return nil }}, nil
}

func TestInterleave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		a, b := &fake{name: "a", log: &log}, &fake{name: "b", log: &log}
		c := &fake{name: "c", absent: &AbsentError{Subject: "c", Reason: "install c"}}
		begin := time.Now()
		rounds := 0
		run, err := Interleave(t.Context(), []Subject{a, b, c}, Options{Rounds: 40, Warmup: 2, Gap: 5 * time.Millisecond, Seed: 7, Progress: func(round, of int) {
			if rounds++; round != rounds || of != 40 {
				t.Errorf("progress %d of %d in round %d", round, of, rounds)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(begin), 42*2*15*time.Millisecond; got != want {
			t.Errorf("it took %v; want %v, every gap kept and one spawn at a time", got, want)
		}
		orders := map[string]int{}
		for i := 0; i < len(log); i += 2 {
			orders[log[i]+log[i+1]]++
		}
		if orders["ab"]+orders["ba"] != 42 || orders["ab"] < 10 || orders["ba"] < 10 {
			t.Errorf("orders within rounds: %v; want each of both once per round, at random", orders)
		}
		if len(run.Results) != 2 || len(run.Results[0].Ready) != 40 || run.Results[0].Ready[0] != 3 || run.Results[0].Total[39] != 84 {
			t.Errorf("results: %+v; want 40 rounds without the two of warming up", run.Results)
		}
		if len(run.Skipped) != 1 || run.Skipped[0].Name != "c" || !strings.Contains(run.Skipped[0].Reason, "install c") {
			t.Errorf("skipped: %+v; want c with its reason", run.Skipped)
		}
	})
}

func TestInterleaveFails(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name     string
		subjects []Subject
		want     string
	}{
		{"spawn", []Subject{&fake{name: "a", fails: broken}}, "spawn by a: broken"},
		{"nothing", []Subject{&fake{name: "a", absent: broken}}, "nothing can be measured here: broken"},
		{"twice", []Subject{&fake{name: "a"}, &fake{name: "a"}}, `two subjects are called "a"`},
	} {
		run, err := Interleave(t.Context(), c.subjects, Options{Rounds: 1})
		if run != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want an error with %q", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := Interleave(ctx, []Subject{&fake{name: "a"}}, Options{}); !errors.Is(err, broken) {
		t.Errorf("cancelled: got %v; want the cause", err)
	}
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		rates, err := Concurrency(t.Context(), f, time.Second, 1, 4)
		if err != nil {
			t.Fatal(err)
		}
		if rates[0].Spawns != 100 || rates[0].PerSecond != 100 || rates[1].Spawns != 400 || rates[1].PerSecond != 400 || f.peak.Load() != 4 {
			t.Errorf("rates %+v, %d in flight at most; want 100/s and 400/s, 4 in flight", rates, f.peak.Load())
		}
		f.fails = errors.New("broken")
		if _, err := Concurrency(t.Context(), f, time.Second, 2); !errors.Is(err, f.fails) {
			t.Errorf("got %v; want the subject's error", err)
		}
	})
}

func TestReachLive(t *testing.T) {
	f := &fake{name: "a"}
	c, err := ReachLive(t.Context(), f, 10, 4)
	if err != nil {
		t.Fatal(err)
	}
	if c.Actors != 10 || c.InFlight != 4 || c.Ready.N != 10 || f.live.Load() != 0 || f.peak.Load() > 4 {
		t.Errorf("crowd %+v, %d left, %d in flight; want 10 reached, none left, at most 4", c, f.live.Load(), f.peak.Load())
	}
	if _, err := ReachLive(t.Context(), f, 0, 1); err == nil {
		t.Error("a crowd of none was accepted")
	}
	f.fails = errors.New("broken")
	if _, err := ReachLive(t.Context(), f, 3, 1); !errors.Is(err, f.fails) {
		t.Errorf("got %v; want the subject's error", err)
	}
}

func TestOptionsDefaults(t *testing.T) {
	o := Options{}.withDefaults()
	if o.Rounds != 100 || o.Warmup != 3 || o.Gap != 1500*time.Microsecond || o.Seed == 0 {
		t.Errorf("defaults are %+v", o)
	}
	o = Options{Warmup: -1, Gap: -1, Seed: 9, Rounds: 2}.withDefaults()
	if !slices.Equal([]int64{int64(o.Warmup), int64(o.Gap), int64(o.Seed), int64(o.Rounds)}, []int64{0, 0, 9, 2}) {
		t.Errorf("negative means none, but got %+v", o)
	}
}
