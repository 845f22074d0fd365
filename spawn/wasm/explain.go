package wasm

import (
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Explain compiles r as Start would, without executing any of it; see that of the backend below.
func (b *Backend) Explain(r *spawn.Request) ([]plan.Section, error) {
	worker, err := b.open()
	if err != nil {
		return nil, err
	}
	defer worker.Close()
	with, err := b.compile(r, worker)
	if err != nil {
		return nil, err
	}
	s, err := b.inner.Explain(with)
	if err == nil && len(s) > 0 {
		last := &s[len(s)-1]
		last.Runs += "; the worker sandboxd-wasm then opens the module as the program, compiles it, says so over the actor's socket, and runs it"
	}
	return s, err
}
