package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"sandboxd/ipc/session"
)

// Run runs body with a nursery: a scope in which actors are started. When Run
// returns, every actor that was started in it is proved gone.
//
//	err := sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
//		worker, err := n.Start(ctx, sandbox.Spec{Argv: []string{"./worker"}, Peer: true})
//		if err != nil {
//			return err
//		}
//		answer, err := sandbox.Call[int, int](ctx, worker, "double", 21)
//		…
//	})
//
// When body returns nil, Run waits for the actors of Nursery.Go, and cancels
// those of Nursery.Start. When body returns an error, an actor fails, or ctx
// ends, everything is cancelled; ctx of body ends then, with the cause. The
// error is the first real one, with all others joined to it; what is only the
// consequence of the cancel is left out.
func Run(ctx context.Context, body func(ctx context.Context, n *Nursery) error, options ...Option) error {
	n := newNursery(ctx, options)
	if n.starter == nil {
		h, err := Open(Options{})
		if err != nil {
			return err
		}
		n.starter = h
		err = n.run(body)
		return errors.Join(err, h.Close())
	}
	return n.run(body)
}

// Option of a nursery.
type Option func(*Nursery)

// On runs the actors on s, such as a Host that is open already, or the one in
// memory of package sandboxtest. Without it Run opens a Host for itself. s is not closed.
func On(s Starter) Option { return func(n *Nursery) { n.starter = s } }

// Grace is how long a cancelled tree may take to end: after half of it actors
// get SIGTERM, after all of it they are killed, whatever the tree's depth. Default: a second.
func Grace(d time.Duration) Option { return func(n *Nursery) { n.grace = d } }

// Supervise says what becomes of the others when an actor fails. Default: OneCancelsAll.
func Supervise(s Strategy) Option { return func(n *Nursery) { n.strategy = s } }

// Serve gives every actor of the nursery the verbs of m to call, besides those of its Spec.
func Serve(m *Mux) Option { return func(n *Nursery) { n.mux = m } }

// Headers lets calls carry what of their context h gives, such as a trace; see package observe.
func Headers(h func(context.Context) map[string]string) Option {
	return func(n *Nursery) { n.headers = h }
}

// Transport puts something between the supervisor and every program, such as faults in tests.
func Transport(f func(io.ReadWriteCloser) io.ReadWriteCloser) Option {
	return func(n *Nursery) { n.transport = f }
}

// ErrCancelling is why an actor is not started: its nursery is being cancelled.
var ErrCancelling = errors.New("the nursery is being cancelled")

// Nursery is a scope of actors; see Run. Its methods may be called concurrently.
type Nursery struct {
	starter   Starter
	grace     time.Duration
	strategy  Strategy
	mux       *Mux
	headers   func(context.Context) map[string]string
	transport func(io.ReadWriteCloser) io.ReadWriteCloser
	owner     *Actor // whose children these are; nil: the body's
	events    *Broadcast[Event]
	dir       *directory

	ctx    context.Context // ends when the nursery is cancelled
	cancel context.CancelCauseFunc

	restarting sync.Mutex // one restart at a time
	restarts   []time.Time

	mu       sync.Mutex
	closed   bool // no more actors
	actors   []*Actor
	started  int
	awaited  sync.WaitGroup // actors of Go
	all      sync.WaitGroup
	failures []error
	deadline time.Time // of the cancel, for the whole tree
}

func newNursery(ctx context.Context, options []Option) *Nursery {
	n := &Nursery{grace: time.Second, strategy: OneCancelsAll{}}
	for _, o := range options {
		o(n)
	}
	if n.events == nil {
		n.events = NewBroadcast[Event](eventsKept)
	}
	n.dir = newDirectory()
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	return n
}

// eventsKept is how many events a reader may lag behind.
const eventsKept = 1024

func (n *Nursery) run(body func(context.Context, *Nursery) error) (err error) {
	stop := context.AfterFunc(n.ctx, n.endAll) // the moment anything fails
	defer func() {
		crash := recover()
		n.cancel(&CancelCause{By: n.self(), Reason: "the scope has ended"})
		stop()
		n.endAll()
		n.all.Wait()
		n.events.Close()
		if crash != nil {
			panic(crash)
		}
		err = n.result(err)
	}()
	if err = body(n.ctx, n); err != nil {
		n.cancel(fmt.Errorf("the scope's body failed: %w", err))
		return err
	}
	done := make(chan struct{})
	go func() {
		n.awaited.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-n.ctx.Done():
	}
	return nil
}

// self is who cancels in the nursery's name.
func (n *Nursery) self() Ref {
	if n.owner != nil {
		return n.owner.Ref()
	}
	return supervisor
}

// supervisor is this process, as actors see it.
var supervisor = Ref{ID: "0", Name: "supervisor"}

// Cancel ends every actor of the nursery, and the context of its body. It does not wait; Run does.
func (n *Nursery) Cancel(reason string) {
	n.cancel(&CancelCause{By: n.self(), Reason: reason})
}

// fail records an actor's failure, and cancels the rest.
func (n *Nursery) fail(a *Actor, err error) {
	n.mu.Lock()
	n.failures = append(n.failures, err)
	n.mu.Unlock()
	n.cancel(&CancelCause{By: a.Ref(), Reason: err.Error()})
}

// note records an error that cancels nobody.
func (n *Nursery) note(err error) {
	n.mu.Lock()
	n.failures = append(n.failures, err)
	n.mu.Unlock()
}

// result is what Run returns: the first real error, and the others joined to it.
func (n *Nursery) result(body error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	real, slow := n.failures[:0:0], n.failures[:0:0]
	for _, err := range n.failures {
		if errors.Is(err, session.ErrTooSlow) {
			slow = append(slow, err)
		} else {
			real = append(real, err)
		}
	}
	cause := context.Cause(n.ctx)
	switch consequence := len(real) > 0 && errors.Is(body, context.Canceled) || body != nil && errors.Is(cause, body); {
	case body != nil && len(real) > 0 && consequence:
	case body != nil:
		// The body's error is first where it is what cancelled the others.
		if len(real) > 0 && !errors.Is(cause, body) {
			real = append(real, body)
		} else {
			real = append([]error{body}, real...)
		}
	}
	if real = append(real, slow...); len(real) > 0 {
		return joined(real)
	}
	if outer, ok := errors.AsType[*CancelCause](cause); ok && outer.By == n.self() {
		return nil // the scope's own end, or its own Cancel
	}
	return cause
}

func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// endAll begins to end every actor, all at once and with one deadline.
func (n *Nursery) endAll() {
	n.mu.Lock()
	n.closed = true
	if n.deadline.IsZero() {
		n.deadline = time.Now().Add(n.grace)
	}
	deadline := n.deadline
	actors := append([]*Actor(nil), n.actors...)
	n.mu.Unlock()
	cause := context.Cause(n.ctx)
	who, ok := errors.AsType[*CancelCause](cause)
	if !ok {
		who = &CancelCause{By: n.self()}
		if cause != nil {
			who.Reason = cause.Error()
		}
	}
	for _, a := range actors {
		a.stop(who, deadline)
	}
}

// Start starts an actor that lives until it is cancelled: by Actor.Cancel, or
// when the scope ends. It returns when the actor's program runs and, with
// Spec.Peer, has said what it serves; or with the reason why not, and nothing
// of it is left. ctx bounds the start only.
func (n *Nursery) Start(ctx context.Context, s Spec) (*Actor, error) { return n.start(ctx, s, true) }

// Go starts an actor that ends by itself. The scope waits for it; an end
// that is no success is a failure.
func (n *Nursery) Go(ctx context.Context, s Spec) (*Actor, error) { return n.start(ctx, s, false) }

func (n *Nursery) start(ctx context.Context, s Spec, daemon bool) (*Actor, error) {
	a := &Actor{
		n: n, spec: s, daemon: daemon, name: s.name(), changed: make(chan struct{}),
		ending: make(chan struct{}), done: make(chan struct{}), resume: make(chan *life, 1),
	}
	if err := n.admit(a); err != nil {
		return nil, err
	}
	l, err := a.begin(ctx, 1)
	if err != nil {
		a.finish(nil, err)
		return nil, err
	}
	go a.live(l)
	return a, nil
}

// admit makes the actor visible to cancel in the same step in which it starts to exist.
func (n *Nursery) admit(a *Actor) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrCancelling, context.Cause(n.ctx))
	}
	n.started++
	a.order = n.started
	n.actors = append(n.actors, a)
	n.all.Add(1)
	if !a.daemon {
		n.awaited.Add(1)
	}
	return nil
}

// drop forgets an actor of which nothing is left.
func (n *Nursery) drop(a *Actor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, b := range n.actors {
		if a == b {
			n.actors = append(n.actors[:i:i], n.actors[i+1:]...)
		}
	}
	if !a.daemon {
		n.awaited.Done()
	}
	n.all.Done()
}

// below is the nursery of an actor's own children. What becomes of them when
// one fails is their parent's affair.
func (n *Nursery) below(a *Actor) *Nursery {
	kids := &Nursery{starter: n.starter, grace: n.grace, strategy: leaveBe{}, mux: n.mux, headers: n.headers, transport: n.transport, owner: a, events: n.events, dir: n.dir}
	kids.ctx, kids.cancel = context.WithCancelCause(context.Background())
	return kids
}

// Actors are those that have not ended, in the order of their start.
func (n *Nursery) Actors() []*Actor {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*Actor(nil), n.actors...)
}

// Events are what happens to the actors of the nursery and to those below them,
// from now on, until the scope ends. A reader that is slower than the last 1024 of them is told by ErrLagged.
func (n *Nursery) Events() *Subscription[Event] { return n.events.Subscribe() }
