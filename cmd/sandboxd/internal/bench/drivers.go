package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Rate is what one subject does with several spawns in flight.
type Rate struct {
	Name      string        `json:"name"`
	InFlight  int           `json:"in_flight"`
	Spawns    int           `json:"spawns"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	PerSecond float64       `json:"per_second"` // spawned and gone again
	Ready     Stats         `json:"ready"`
}

// Concurrency measures s with each number of spawns in flight, for the given
// time each. The subject must have been probed.
func Concurrency(ctx context.Context, s Subject, d time.Duration, inFlight ...int) ([]Rate, error) {
	var rates []Rate
	for _, k := range inFlight {
		spawn := func(ctx context.Context) (Sample, error) {
			sample, err := s.Once(ctx)
			if err != nil {
				return sample, fmt.Errorf("bench: spawn by %s, %d in flight: %w", s.Name(), k, err)
			}
			return sample, nil
		}
		// What a subject keeps for each spawn in flight is not measured.
		err := workers(ctx, k, func(ctx context.Context) (bool, error) {
			_, err := spawn(ctx)
			return false, err
		})
		if err != nil {
			return nil, err
		}
		var mu sync.Mutex
		var ready Series // guarded by mu
		begin := time.Now()
		err = workers(ctx, k, func(ctx context.Context) (bool, error) {
			sample, err := spawn(ctx)
			if err != nil {
				return false, err
			}
			mu.Lock()
			ready = append(ready, sample.Ready)
			mu.Unlock()
			return time.Since(begin) < d, nil
		})
		if err != nil {
			return nil, err
		}
		elapsed := time.Since(begin)
		rates = append(rates, Rate{
			Name: s.Name(), InFlight: k, Spawns: len(ready), Elapsed: elapsed,
			PerSecond: float64(len(ready)) / elapsed.Seconds(), Ready: ready.Stats(),
		})
	}
	return rates, nil
}

// workers runs step in k goroutines until it says false or fails; the first
// error stops the others at their next step.
func workers(ctx context.Context, k int, step func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range k {
		wg.Go(func() {
			for context.Cause(ctx) == nil {
				more, err := step(ctx)
				if err != nil {
					cancel(err)
				}
				if !more {
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Crowd is how many actors were brought to life and held.
type Crowd struct {
	Name     string        `json:"name"`
	Actors   int           `json:"actors"`
	InFlight int           `json:"in_flight"`
	Reach    time.Duration `json:"reach_ns"` // first spawn begun to last actor ready
	Gone     time.Duration `json:"gone_ns"`  // to all of them stopped and cleaned up
	Ready    Stats         `json:"ready"`    // none for a subject that times only the whole
	Memory   Memory        `json:"memory_per_actor"`
}

// ReachLive brings n actors of s to life with inFlight spawns at a time,
// measures their memory while they idle, and stops them. The subject must have
// been probed. Actors are stopped whatever happens.
func ReachLive(ctx context.Context, s Starter, n, inFlight int) (Crowd, error) {
	if n < 1 {
		return Crowd{}, fmt.Errorf("bench: %d live actors asked of %s; ask for at least one", n, s.Name())
	}
	c := Crowd{Name: s.Name(), Actors: n, InFlight: inFlight}
	before, err := settledMemory(ctx)
	if err != nil {
		return c, err
	}
	var mu sync.Mutex
	var live []Live // guarded by mu, like next
	next := 0
	begin := time.Now()
	err = workers(ctx, inFlight, func(ctx context.Context) (bool, error) {
		mu.Lock()
		mine := next
		next++
		mu.Unlock()
		if mine >= n {
			return false, nil
		}
		l, err := s.Start(ctx)
		if err != nil {
			return false, fmt.Errorf("bench: start actor %d of %d by %s: %w", mine+1, n, s.Name(), err)
		}
		mu.Lock()
		live = append(live, l)
		mu.Unlock()
		return true, nil
	})
	c.Reach = time.Since(begin)
	var pids []int
	var ready Series
	for _, l := range live {
		pids, ready = append(pids, l.PIDs...), append(ready, l.Ready)
	}
	c.Ready = ready.Stats()
	if err == nil {
		c.Memory, err = memoryPerActor(before, n, pids)
	}
	begin = time.Now()
	stopErr := stopAll(live, inFlight)
	c.Gone = time.Since(begin)
	return c, errors.Join(err, stopErr)
}

func stopAll(live []Live, inFlight int) error {
	var wg sync.WaitGroup
	errs := make([]error, len(live))
	for w := range inFlight {
		wg.Go(func() {
			for i := w; i < len(live); i += inFlight {
				errs[i] = live[i].Stop()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
