package sandbox

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// Run runs body with a nursery: a scope in which actors are started. When Run
// returns, every actor that was started in it is proved gone; so it is when body
// panics, before the panic goes on.
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
// error is the first real one, with all others joined to it (errors.Join); what
// is only the consequence of the cancel is left out. Where there is none, it is
// the cause for which ctx ended, and nil after Nursery.Cancel. An actor that had
// to be killed is a *TooSlowError, after the others.
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
// get SIGTERM, after all of it they are killed, whatever the tree's depth.
// Default: a second; 0 or less kills at once.
func Grace(d time.Duration) Option { return func(n *Nursery) { n.grace = d } }

// Supervise says what becomes of the others when an actor fails. Default: OneCancelsAll.
func Supervise(s Strategy) Option { return func(n *Nursery) { n.strategy = s } }

// Serve gives every actor of the nursery, and those below them, the verbs of m
// to call, besides those of its Spec. Names that begin with sandboxd. are refused.
func Serve(m *Mux) Option { return func(n *Nursery) { n.mux = m } }

// Headers lets calls carry what of their context h gives, such as a trace; see
// package observe. At most 16, of 64 bytes each and values of 512. Where h gives
// none, a call that is made for one of an actor's carries on what came with that.
func Headers(h func(context.Context) map[string]string) Option {
	return func(n *Nursery) { n.headers = h }
}

// Transport puts something between the supervisor and every connection of a
// program, such as faults in tests. Closing what f returns closes what it was given.
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
	events    *Broadcast[Event]
	dir       *directory

	by     Ref      // in whose name it cancels
	above  *Nursery // that of the actor whose children these are; nil: the scope is a body's
	owner  *Actor   // that actor
	parent Running  // its life, in which these run

	ctx    context.Context // ends when the nursery is cancelled
	cancel context.CancelCauseFunc

	restarting chan struct{} // held by the one restart that takes others along

	mu       sync.Mutex
	own      *CancelCause // its end by itself or by Cancel, which is no error
	closed   bool         // no more actors
	actors   []*Actor     // that have not ended, in the order of their start
	started  int
	awaited  int           // of Go, that have not ended
	dropped  chan struct{} // closed when one of actors has ended
	failures failures      // of the scope; unused where there is one above
	restarts []time.Time
	deadline time.Time // of the cancel, for the whole tree
}

func newNursery(ctx context.Context, options []Option) *Nursery {
	n := &Nursery{
		grace: time.Second, strategy: OneCancelsAll{}, by: supervisor, dir: newDirectory(),
		events: NewBroadcast[Event](eventsKept),
	}
	for _, o := range options {
		o(n)
	}
	return n.open(ctx)
}

func (n *Nursery) open(ctx context.Context) *Nursery {
	n.dropped, n.restarting = make(chan struct{}), make(chan struct{}, 1)
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	return n
}

// below is the nursery of the children of one life of an actor. What becomes of
// them when one fails is their parent's affair.
func (n *Nursery) below(a *Actor, l *life) *Nursery {
	kids := &Nursery{
		starter: n.starter, grace: n.grace, strategy: leaveBe{}, mux: n.mux, headers: n.headers,
		transport: n.transport, events: n.events, dir: n.dir,
		by: l.ref, above: n, owner: a, parent: l.run,
	}
	return kids.open(context.Background())
}

// eventsKept is how many events a reader may lag behind.
const eventsKept = 1024

// supervisor is this process, as actors see it.
var supervisor = Ref{ID: "0", Name: "supervisor"}

// Cancel ends every actor of the nursery, and the context of its body. It does
// not wait; Run does, and takes that for no error.
func (n *Nursery) Cancel(reason string) {
	n.mu.Lock()
	if n.own == nil {
		n.own = &CancelCause{By: n.by, Reason: reason}
	}
	own := n.own
	n.mu.Unlock()
	n.cancel(own)
}

// Start starts an actor that lives until it is cancelled: by Actor.Cancel, or
// when the scope ends. It returns when the actor's program runs and, with
// Spec.Peer, has said what it serves; or with the reason why not, an *ActorError
// where the program ran, ErrCancelling or ErrSpec, and nothing of it is left. ctx
// bounds the start only. A program that ends by itself, well, is no failure
// unless the Strategy restarts.
func (n *Nursery) Start(ctx context.Context, s Spec) (*Actor, error) { return n.start(ctx, s, daemon) }

// Go starts an actor that ends by itself. The scope waits for it; an end
// that is no success is a failure.
func (n *Nursery) Go(ctx context.Context, s Spec) (*Actor, error) { return n.start(ctx, s, task) }

// Actors are those that have not ended, in the order of their start. Those that
// actors started themselves are not among them.
func (n *Nursery) Actors() []*Actor {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.actors)
}

// Events are what happens to the actors of the nursery and to those below them,
// from now on, until the scope ends. A reader that is slower than the last 1024
// of them is told by a *LaggedError.
func (n *Nursery) Events() *Subscription[Event] { return n.events.Subscribe() }
