package session

import (
	"context"
	"fmt"
	"sync"
)

// Mux is what one side serves: verbs and their functions. The zero value serves
// nothing; nil does as well. Verbs may be added until the session begins.
type Mux struct {
	mu    sync.RWMutex
	verbs map[string]served
	names []string
}

type served struct {
	mode Mode
	f    func(context.Context, *Inbound) ([]byte, error)
}

// Add serves verb by f, whose value is an encoded one. A verb that is taken panics, as in http.ServeMux.
func (m *Mux) Add(verb string, mode Mode, f func(context.Context, *Inbound) ([]byte, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.verbs[verb].f != nil {
		panic(fmt.Sprintf("session: verb %q is served already", verb))
	}
	m.put(verb, served{mode, f})
}

func (m *Mux) put(verb string, v served) {
	if err := checkVerb(verb); err != nil {
		panic(err.Error())
	}
	if len(m.names) == maxVerbs {
		panic(fmt.Sprintf("session: more than %d verbs", maxVerbs))
	}
	if m.verbs == nil {
		m.verbs = map[string]served{}
	}
	m.verbs[verb] = v
	m.names = append(m.names, verb)
}

// Merge is a Mux with the verbs of all of those given; nil ones are fine, and the first to name a verb has it.
func Merge(all ...*Mux) *Mux {
	m := &Mux{}
	for _, other := range all {
		for _, verb := range other.Verbs() {
			if _, taken := m.verbs[verb]; !taken {
				m.put(verb, other.find(verb))
			}
		}
	}
	return m
}

// Verbs are the names of what is served, in the order of Add.
func (m *Mux) Verbs() []string {
	if m == nil {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]string(nil), m.names...)
}

func (m *Mux) find(verb string) served {
	if m == nil {
		return served{}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.verbs[verb]
}
