package abuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// bound is what a bomb may cost its neighbour: generous, as the machine may be
// busy with something else, and far below what a host brought down shows.
const bound = time.Second

func quantiles(took []time.Duration) (p99, median time.Duration) {
	if len(took) == 0 {
		return bound + 1, bound + 1
	}
	slices.Sort(took)
	return took[len(took)*99/100], took[len(took)/2]
}

// neighbours measures an actor while each bomb goes off beside it.
func (s *Suite) neighbours(ctx context.Context, m *Matrix, chosen []Case) error {
	for _, backend := range m.Backends {
		bombs := []*Case{nil}
		for i, c := range chosen {
			if c.Class() == "resource" {
				bombs = append(bombs, &chosen[i])
			}
		}
		for _, c := range bombs {
			n, err := s.beside(ctx, c, backend)
			if err != nil {
				return fmt.Errorf("a neighbour of %s: %w", n.Bomb, err)
			}
			m.Neighbours = append(m.Neighbours, n)
		}
	}
	return nil
}

func (s *Suite) beside(ctx context.Context, c *Case, backend string) (n Neighbour, err error) {
	n.Backend = backend
	st, err := s.begin(ctx, backend)
	if err != nil {
		return n, err
	}
	defer st.close()
	spec := st.this("victim")
	spec.Limits.Timeout = 2 * patience
	r, w := io.Pipe()
	defer w.Close()
	ready := make(chan struct{})
	var out bytes.Buffer
	spec.Stdin, spec.Stdout = r, io.MultiWriter(&notice{to: ready}, &out)
	p, err := s.host.Start(ctx, spec)
	if err != nil {
		return n, err
	}
	defer func() { p.Cancel("measured", 0); <-p.Gone() }()
	select {
	case <-ready:
	case <-p.Gone():
		return n, errors.New("the victim ended")
	}
	if c == nil {
		time.Sleep(500 * time.Millisecond)
	} else {
		n.Bomb = c.ID
		for began := time.Now(); time.Since(began) < 300*time.Millisecond; {
			if _, err := s.attack(ctx, c, backend, nil); err != nil {
				return n, err
			}
		}
	}
	w.Close()
	if _, err := p.Wait(ctx); err != nil {
		return n, err
	}
	var p99, median int64
	if _, err := fmt.Sscanf(out.String(), "ready\n%d %d %d", &p99, &median, &n.Loops); err != nil {
		return n, fmt.Errorf("the victim said %q: %w", out.String(), err)
	}
	n.P99, n.Median = time.Duration(p99)*time.Microsecond, time.Duration(median)*time.Microsecond
	n.Harmed = n.P99 > bound
	return n, nil
}
