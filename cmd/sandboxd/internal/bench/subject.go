package bench

import (
	"context"
	"fmt"
	"time"
)

// Subject is one way to spawn. Its methods may be called from several
// goroutines at once after Probe has returned.
type Subject interface {
	// Name is short and unique in a run, such as "bwrap".
	Name() string
	// Probe prepares what a spawn shall not pay for and spawns once. nil means
	// that Once will work; an error says why not on this host, and the way out.
	Probe(ctx context.Context) error
	// Once spawns once and returns when all of it is gone again.
	Once(ctx context.Context) (Sample, error)
}

// Sample is one spawn, both times from its first action on the monotonic clock.
type Sample struct {
	Ready time.Duration // to the first byte of the program, or the handshake's end; of a program that is silent, to its end
	Total time.Duration // to it being reaped and cleaned up
}

// Versioner is a Subject that can tell which program it measures.
type Versioner interface {
	Version(ctx context.Context) (string, error)
}

// Starter is a Subject that can leave its actor alive.
type Starter interface {
	Subject
	Start(ctx context.Context) (Live, error)
}

// Live is an actor that runs until Stop, which its receiver owes it.
type Live struct {
	Ready time.Duration
	PIDs  []int // its processes as this process sees them; none if unknown
	Stop  func() error
}

// AbsentError says why a Subject cannot be measured on this host.
type AbsentError struct {
	Subject string
	Reason  string // what was observed, and the way out
	Err     error  // the system's answer, where there was one
}

func (e *AbsentError) Error() string {
	s := fmt.Sprintf("bench: %s cannot be measured here: %s", e.Subject, e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *AbsentError) Unwrap() error { return e.Err }
