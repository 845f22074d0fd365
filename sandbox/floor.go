package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Floor is the least that an actor's boundary must be.
type Floor string

// The floors, from the weakest on. Each has what those before it have.
const (
	FloorProcess   Floor = "process"   // a process of its own, without privileges, behind seccomp and Landlock
	FloorNamespace Floor = "namespace" // namespaces and a root of its own, on the host's kernel
	FloorKernel    Floor = "kernel"    // a kernel of its own, in user space
	FloorVM        Floor = "vm"        // a machine of its own
)

// Auto as Spec.Backend picks the cheapest backend of this host that reaches
// Spec.Isolation and holds the Spec.
const Auto = "auto"

var floors = []Floor{FloorProcess, FloorNamespace, FloorKernel, FloorVM}

// reaches says whether a boundary is at least as strong as a floor; "" asks for nothing.
func (f Floor) reaches(least Floor) bool {
	return slices.Index(floors, f) >= slices.Index(floors, least)
}

// rung is a backend with what it reaches.
type rung struct {
	name  string
	is    Floor
	named bool // it runs programs of a kind of its own, so nobody gets it who did not name it
}

// ladder is every backend, the cheapest first.
var ladder = []rung{
	{name: "process", is: FloorProcess},
	{name: "native", is: FloorNamespace},
	{name: "wasm", is: FloorNamespace, named: true},
	{name: "container", is: FloorNamespace},
	{name: "gvisor", is: FloorKernel},
	{name: "microvm", is: FloorVM},
}

// Backends are the names that Spec.Backend may have besides Auto, the cheapest first.
func Backends() (names []string) {
	for _, l := range ladder {
		names = append(names, l.name)
	}
	return names
}

// Choice says which boundary an actor got, and why.
type Choice struct {
	Isolation Floor    `json:"isolation"`        // what the backend reaches
	Floor     Floor    `json:"floor,omitempty"`  // what had to be reached; "" where nobody said
	Why       string   `json:"why"`              // for people
	Passed    []Passed `json:"passed,omitempty"` // by auto: cheaper backends, and why not they
}

// Passed is a backend that was not taken.
type Passed struct {
	Backend string `json:"backend"`
	Reason  string `json:"reason"`
}

// NoBackendError says why no backend of this host reaches a floor and holds a
// Spec. It is an ErrUnenforceable.
type NoBackendError struct {
	Floor Floor
	Named string   // the only backend that was asked for; "": any
	Tried []Passed // backends, and why not they
	Else  []string // what would serve instead, for people
}

// Error says all of it, a line for each backend.
func (e *NoBackendError) Error() string {
	var b strings.Builder
	if e.Named != "" {
		fmt.Fprintf(&b, "the %s backend does not reach isolation %s:\n", e.Named, e.Floor)
	} else {
		fmt.Fprintf(&b, "no backend here reaches isolation %s and holds what was asked for:\n", e.Floor)
	}
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "  %s: %s\n", t.Backend, t.Reason)
	}
	b.WriteString("what else would serve:")
	for _, s := range e.Else {
		fmt.Fprintf(&b, "\n  %s", s)
	}
	return b.String()
}

// Unwrap is ErrUnenforceable.
func (e *NoBackendError) Unwrap() error { return ErrUnenforceable }

// resolve decides everything about s, once.
func (h *Host) resolve(s Spec) (*resolved, error) {
	if s.Isolation != "" && !slices.Contains(floors, s.Isolation) {
		return nil, fmt.Errorf("%w: isolation %q: want process, namespace, kernel or vm", ErrSpec, s.Isolation)
	}
	if s.Backend == Auto || s.Backend == "" && s.Isolation != "" {
		return h.resolveAuto(s)
	}
	b, err := h.Backend(s.Backend)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	c := Choice{Isolation: Reaches(b.Name()), Floor: s.Isolation, Why: "it was named"}
	if s.Backend == "" {
		c.Why = "it is the default"
	}
	if !c.Isolation.reaches(s.Isolation) {
		return nil, h.none(s, []Passed{{b.Name(), short(c.Isolation)}})
	}
	r, err := h.resolveOn(s, b)
	if err == nil {
		r.choice = c
	}
	return r, err
}

// Reaches is the highest floor that a backend reaches, "" if there is no such backend.
func Reaches(backend string) Floor {
	for _, l := range ladder {
		if l.name == backend {
			return l.is
		}
	}
	return ""
}

func short(is Floor) string { return fmt.Sprintf("it reaches %s only", is) }

// resolveAuto takes the cheapest backend that reaches the floor, which is
// namespaces unless somebody said less: what auto saves is never the boundary.
// With BestEffort one that holds everything goes before a cheaper one that does not.
func (h *Host) resolveAuto(s Spec) (*resolved, error) {
	if s.Backend = Auto; s.Isolation == "" {
		s.Isolation = FloorNamespace
	}
	r, tried, err := h.cheapest(s, false)
	if r == nil && err == nil && s.BestEffort {
		r, tried, err = h.cheapest(s, true)
	}
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, h.none(s, tried)
	}
	r.choice.Passed = tried
	return r, nil
}

// cheapest is nil where no backend does; tried are those before it.
func (h *Host) cheapest(s Spec, bestEffort bool) (*resolved, []Passed, error) {
	s.BestEffort = bestEffort
	var tried []Passed
	for _, l := range ladder {
		if l.named {
			continue
		}
		if !l.is.reaches(s.Isolation) {
			tried = append(tried, Passed{l.name, short(l.is)})
			continue
		}
		r, err := h.on(s, l.name)
		switch {
		case errors.Is(err, ErrSpec):
			return nil, nil, err
		case err != nil:
			why := strings.TrimPrefix(err.Error(), ErrUnenforceable.Error()+": ")
			tried = append(tried, Passed{l.name, strings.TrimSuffix(why, bestEffortHint)})
		default:
			r.choice = Choice{Isolation: l.is, Floor: s.Isolation, Why: "it is the cheapest that reaches " + string(s.Isolation) + " and holds all that was asked for"}
			if bestEffort {
				r.choice.Why = "none holds all that was asked for; it is the cheapest that reaches " + string(s.Isolation)
			}
			if h.looks {
				r.choice.Why += ", if it works here, which only a start tells"
			}
			return r, tried, nil
		}
	}
	return nil, tried, nil
}

// on resolves s for a backend that works here.
func (h *Host) on(s Spec, name string) (*resolved, error) {
	b, err := h.Backend(name)
	if err != nil {
		return nil, err
	}
	r, err := h.resolveOn(s, b)
	if err != nil || h.looks {
		return r, err
	}
	return r, h.works(b)
}

// none is the refusal, with what would serve instead.
func (h *Host) none(s Spec, tried []Passed) error {
	e := &NoBackendError{Floor: s.Isolation, Tried: tried}
	if s.Backend != Auto {
		e.Named = tried[0].Backend
	}
	down := slices.DeleteFunc(slices.Clone(ladder), func(l rung) bool { return l.named }) // the strongest first, and of those as strong the cheapest
	slices.SortStableFunc(down, func(a, b rung) int { return slices.Index(floors, b.is) - slices.Index(floors, a.is) })
	strongest := down[0]
	if !strongest.is.reaches(s.Isolation) {
		e.Tried = append(e.Tried, Passed{"others", fmt.Sprintf("this build has none that reaches %s; %s is its strongest", s.Isolation, strongest.name)})
	}
	for _, l := range down {
		if l.is.reaches(s.Isolation) && s.Backend == Auto {
			continue // it was tried
		}
		s.BestEffort = false
		if _, err := h.on(s, l.name); err == nil {
			e.Else = append(e.Else, fmt.Sprintf("--isolation %s, which the %s backend reaches here with all that was asked for", l.is, l.name))
			break
		}
	}
	switch {
	case !FloorNamespace.reaches(s.Isolation):
		e.Else = append(e.Else, "a kernel of its own for one program, without limits and report: sandboxd vm run -- PROGRAM")
	case e.Else == nil:
		e.Else = append(e.Else, "another host, or this one mended: sandboxd doctor says how")
	}
	return e
}
