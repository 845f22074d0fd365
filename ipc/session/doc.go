// Package session is the conversation between an actor's program and its
// supervisor: many calls and streams at once over one connection, as
// docs/protocol.md defines them. Both sides use this package; what they do
// with it is in sandbox (supervisor) and sandbox/peer (program).
//
//	var mux session.Mux
//	session.Handle(&mux, "double", func(ctx context.Context, n int) (int, error) { return 2 * n, nil })
//	s, welcome, err := session.Join(ctx, conn, session.Hello{SDK: "example"}, session.Options{Mux: &mux})
//	answer, err := session.Call[int, int](ctx, s, "host.verb", 21)
//
// What arrives is hostile. Frames are bounded before they are read and checked
// before they are decoded, what the other side may have us hold is bounded by
// windows and a budget, and whoever breaks the protocol loses the connection.
//
// Who reads the connection, and where functions run, is in turn.go.
//
// Non-goals: who may connect (package spawn), what becomes of an actor whose
// connection is lost (package sandbox), and any transport of its own: it takes
// an io.ReadWriteCloser.
package session

import "time"

// Proto is the version of the protocol.
const Proto = 1

const (
	// DefaultCap bounds a frame's body in bytes, once WELCOME was said.
	DefaultCap = 1 << 20
	// DefaultWindow is how many bytes of one stream are held for a reader that is slow.
	DefaultWindow = 256 << 10
	// DefaultBudget bounds the bytes that all calls of the other side may have us hold.
	DefaultBudget = 32 << 20
	// DefaultCalls is how many calls the other side may have open at once.
	DefaultCalls = 256
	// DefaultGrace is how long a cancelled call may take to end before that is an error of its own.
	DefaultGrace = 500 * time.Millisecond

	helloCap     = 16 << 10
	maxVerbs     = 1024
	maxName      = 128
	maxSDK       = 64
	maxHeaders   = 16
	maxHeaderKey = 64
	maxHeaderVal = 512
	maxReason    = 1024
	maxMessage   = 16 << 10
	maxStack     = 64 << 10
	maxRelay     = 32
	maxNumber    = 1 << 53
	minItem      = 64 // what a small item costs of a window
)
