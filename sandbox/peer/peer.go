// Package peer is for programs that are actors: what runs inside the sandbox
// imports this, and nothing else of sandboxd.
//
//	func main() {
//		var mux peer.Mux
//		peer.Handle(&mux, "double", func(ctx context.Context, n int) (int, error) { return 2 * n, nil })
//		if err := peer.Serve(context.Background(), &mux); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// The supervisor starts such a program with sandbox.Spec.Peer, and calls it
// with sandbox.Call. The protocol is docs/protocol.md; sdk/python speaks it too.
// Built for GOOS=wasip1, the same program is an actor of the backend "wasm".
//
// Non-goals: starting sandboxes (package sandbox) and confining this process,
// which has been done before its first instruction.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sandboxd/ipc/session"
)

// Socket is where the supervisor listens, inside the sandbox, unless the
// environment variable SANDBOXD_PEER says otherwise.
const Socket = "/run/sandboxd/peer.sock"

// Mux is what the program serves. Verbs are added before Serve or Connect.
type Mux = session.Mux

// Ref names an actor.
type Ref = session.Ref

// Cancelled is the cause (context.Cause) of a context that somebody cancelled: who, and what for.
type Cancelled = session.Cancelled

// Lent is bytes of a message that are not copied, for large ones. Those of a
// request are overwritten once its answer has been encoded; see [session.Lent].
type Lent = session.Lent

// ServerStream is this side's end of a dialog that somebody opened: it receives In and sends Out.
type ServerStream[In, Out any] = session.ServerStream[In, Out]

// ClientStream is this side's end of a dialog that it opened: it sends Out and receives In.
type ClientStream[Out, In any] = session.ClientStream[Out, In]

// RemoteError is an error that happened in another actor, or in the supervisor.
type RemoteError = session.RemoteError

// Handle serves verb by a function of one request and one answer. Its context
// ends with the caller's deadline, the caller's cancel, or the connection; an
// error, and a panic, go back to the caller with type, message and source.
// Functions run concurrently, but the goroutine of one may run others later: a
// runtime.LockOSThread must be undone.
func Handle[Req, Resp any](m *Mux, verb string, f func(context.Context, Req) (Resp, error)) {
	session.Handle(m, verb, f)
}

// HandleStream serves verb by a dialog: f gets the opener's first value, says
// Started, sends and receives, and returns the result.
func HandleStream[Req, In, Out, Resp any](m *Mux, verb string, f func(context.Context, Req, ServerStream[In, Out]) (Resp, error)) {
	session.HandleStream(m, verb, f)
}

// RegisterError lets errors.Is find err on the other side, which registers its own by the same name.
func RegisterError(name string, err error) { session.RegisterError(name, err) }

// RegisterErrorType lets errors.As find errors of type T on the other side, with their exported fields.
func RegisterErrorType[T error](name string) { session.RegisterErrorType[T](name) }

// Peer is the program's connection to its supervisor. It ends with Wait.
type Peer struct {
	Self     Ref               // who this actor is
	Epoch    uint64            // 1, and one more after each restart
	Deadline time.Time         // when its time is over; zero: no deadline
	Limits   map[string]uint64 // what holds it, as docs/protocol.md names it

	s    *session.Session
	asks chan ask
}

type ask struct {
	cause *Cancelled
	grace time.Duration
}

// Serve connects and serves m until the supervisor asks the program to end
// (nil), ctx ends, or the connection is lost. Then main should return: nothing
// reaches this program any more.
func Serve(ctx context.Context, m *Mux) error {
	p, err := Connect(ctx, m)
	if err != nil {
		return err
	}
	return p.Wait(ctx)
}

// Connect connects and begins to serve m, which may be nil, in the background.
func Connect(ctx context.Context, m *Mux) (*Peer, error) {
	conn, err := dial()
	if err != nil {
		return nil, fmt.Errorf("peer: connect to the supervisor %w; is this program started with sandbox.Spec.Peer?", err)
	}
	return Over(ctx, conn, m)
}

// Over is Connect over a connection that is there already. It is the Peer's, and closed where Over fails.
func Over(ctx context.Context, conn io.ReadWriteCloser, m *Mux) (*Peer, error) {
	p := &Peer{asks: make(chan ask, 1)}
	known := make(chan struct{}) // closed when p is whole: calls come before Join has returned
	s, w, err := session.Join(ctx, conn, session.Hello{SDK: "go/1"}, session.Options{
		Mux:       m,
		Cancelled: func(c *session.Cancelled, grace time.Duration) { p.asks <- ask{c, grace} },
		Headers:   Headers,
		Context: func(ctx context.Context, c *session.Inbound) context.Context {
			<-known
			return context.WithValue(WithHeaders(ctx, c.Headers()), key{}, p)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	p.Self, p.Epoch, p.Limits, p.s = w.Self, w.Epoch, w.Limits, s
	if w.Left > 0 {
		p.Deadline = time.Now().Add(w.Left)
	}
	close(known)
	return p, nil
}

type headersKey struct{}

// Headers are what came with the call that is being served, such as a trace, and
// what calls that are made in its context take along; nil where there is nothing.
func Headers(ctx context.Context) map[string]string {
	h, _ := ctx.Value(headersKey{}).(map[string]string)
	return h
}

// WithHeaders lets calls that are made in ctx take h along: at most 16, of 64 bytes each and values of 512.
func WithHeaders(ctx context.Context, h map[string]string) context.Context {
	return context.WithValue(ctx, headersKey{}, h)
}

type key struct{}

// From gives the connection over which the call that is being served came; nil outside of one.
func From(ctx context.Context) *Peer {
	p, _ := ctx.Value(key{}).(*Peer)
	return p
}

// Wait serves until the supervisor asks the program to end (nil), ctx ends
// (nil: the program ends of its own accord), or the connection is lost. What is
// being served is cancelled then, and answered; what does not end within the
// supervisor's grace is left behind, and main should return all the same.
func (p *Peer) Wait(ctx context.Context) error {
	a := ask{grace: session.DefaultGrace}
	select {
	case a = <-p.asks:
	case <-ctx.Done():
		a.cause = &Cancelled{By: p.Self, Reason: context.Cause(ctx).Error()}
	case <-p.s.Done():
		if err := p.s.Err(); !errors.Is(err, session.ErrExited) {
			return fmt.Errorf("peer: %w", err)
		}
		return nil
	}
	// A tenth of the grace is for the way out of this process.
	within, stop := context.WithTimeout(context.Background(), a.grace-a.grace/10)
	defer stop()
	p.s.Drain(within, a.cause)
	_ = p.s.Exit(within) // who does not hear it sees the connection's end
	return nil
}

// Serves tells whether the supervisor serves verb for this actor.
func (p *Peer) Serves(verb string) bool { return p.s.Serves(verb) }

// Call calls a verb that the supervisor serves.
func Call[Req, Resp any](ctx context.Context, p *Peer, verb string, req Req) (Resp, error) {
	return session.Call[Req, Resp](ctx, p.s, verb, req)
}

// CallInto is Call that decodes the answer into resp, and uses its memory again where it is a slice of bytes.
func CallInto[Req, Resp any](ctx context.Context, p *Peer, verb string, req Req, resp *Resp) error {
	return session.CallInto(ctx, p.s, verb, req, resp)
}

// OpenStream opens a dialog that the supervisor serves.
func OpenStream[Out, In, Req any](ctx context.Context, p *Peer, verb string, req Req) (*ClientStream[Out, In], error) {
	return session.OpenStream[Out, In](ctx, p.s, verb, req)
}
