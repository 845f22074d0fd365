package sandbox

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"sandboxd/ipc/session"
)

// Dump writes the tree of actors to w, parents before their children: state,
// epoch, the calls that are open and since when, and of processes what the
// kernel says they wait for and what their cgroup counts. Then come the
// goroutines of this process. It waits for no actor and takes no lock for long,
// so that it also works while they hang. The format is for people, and changes;
// strings that programs have chosen are quoted. The error is that of w.
func (n *Nursery) Dump(w io.Writer) error {
	var b strings.Builder
	n.dump(&b, "")
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	fmt.Fprintf(&b, "\ngoroutines of the supervisor:\n%s\n", stacks)
	_, err := io.WriteString(w, b.String())
	return err
}

func (n *Nursery) dump(b *strings.Builder, indent string) {
	n.mu.Lock()
	actors, failed := slices.Clone(n.actors), len(n.failures.real)+len(n.failures.slow)
	n.mu.Unlock()
	if n.above == nil {
		state := "open"
		if n.ctx.Err() != nil {
			state = "being cancelled"
		}
		fmt.Fprintf(b, "nursery: %s, %d actors, %d failures\n", state, len(actors), failed)
	}
	for _, a := range actors {
		a.dump(b, indent+"  ")
	}
}

func (a *Actor) dump(b *strings.Builder, indent string) {
	a.mu.Lock()
	l, epoch := a.life, a.epoch
	state, s := "being started", (*session.Session)(nil)
	if l != nil {
		state, s = l.stateLocked(), l.s
	}
	a.mu.Unlock()
	if l == nil {
		fmt.Fprintf(b, "%s%q: %s\n", indent, a.name, state)
		return
	}
	fmt.Fprintf(b, "%s%q (%s): %s, epoch %d, for %v\n", indent, a.name, l.ref.ID, state, epoch, time.Since(l.since).Round(time.Millisecond))
	if s != nil {
		calls := s.Calls()
		slices.SortFunc(calls, func(x, y CallInfo) int { return cmp.Compare(x.Since.UnixNano(), y.Since.UnixNano()) })
		for _, c := range calls {
			way := "call of it"
			if c.Inbound {
				way = "call by it"
			}
			fmt.Fprintf(b, "%s  %s: %q, for %v\n", indent, way, c.Verb, time.Since(c.Since).Round(time.Millisecond))
		}
	}
	if p, ok := l.run.(*Process); ok {
		p.dump(b, indent+"  ")
	}
	l.kids.dump(b, indent)
}

// stateLocked says in words where a life is. Precondition: Actor.mu is held.
func (l *life) stateLocked() string {
	ready := false
	select {
	case <-l.ready:
		ready = true
	default:
	}
	switch {
	case l.buried:
		return "dead"
	case l.ladder != nil && l.slow != nil:
		return "being killed"
	case l.ladder != nil && l.yielded:
		return "asked to end, and has acknowledged or got SIGTERM"
	case l.ladder != nil:
		return "asked to end"
	case !ready:
		return "waited for: it has not said what it serves"
	}
	return "ready"
}

// DumpOn dumps every nursery that is open to w each time sig comes, until stop
// is called. A program that does so has a way to see why it hangs:
//
//	defer sandbox.DumpOn(syscall.SIGUSR1, os.Stderr)()
func DumpOn(sig os.Signal, w io.Writer) (stop func()) {
	came, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(came, sig)
	go func() {
		for {
			select {
			case <-came:
				for _, n := range nurseries.list() {
					_ = n.Dump(w) // there is nobody to tell
				}
			case <-done:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(came)
		close(done)
	})
}

// nurseries are those of Run that are open.
var nurseries scopes

type scopes struct {
	mu   sync.Mutex
	open []*Nursery
}

func (s *scopes) add(n *Nursery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, n)
}

func (s *scopes) remove(n *Nursery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(m *Nursery) bool { return m == n })
}

func (s *scopes) list() []*Nursery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.open)
}
