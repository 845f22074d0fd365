package session

import (
	"cmp"
	"context"
	"time"
)

// Options of a session. The zero value serves nothing and has the defaults of this package.
type Options struct {
	Self Ref  // who this side is, in what it cancels and passes on; Join fills it in
	Peer Ref  // who the other side is; Welcome fills it in
	Mux  *Mux // what this side serves; nil: nothing

	// Cancelled is called, once, when the supervisor asks the whole program to
	// end. Programs only; the acknowledgement has been sent.
	Cancelled func(c *Cancelled, grace time.Duration)
	// Headers gives what a call carries of its context, such as a trace; nil: nothing.
	Headers func(context.Context) map[string]string
	// Context derives what a served call runs in; nil: the session's own.
	Context func(ctx context.Context, c *Inbound) context.Context
	// Observe, if set, is told of every call served or made, soon after it has ended. It must not wait.
	Observe func(CallInfo)

	Window int           // bytes of each stream that are held here; 0: DefaultWindow
	Budget int64         // 0: DefaultBudget, and of a program 16 times that
	Calls  int           // 0: DefaultCalls
	Grace  time.Duration // 0: DefaultGrace

	host  bool // this side is the supervisor
	verbs map[string]bool
}

// CallInfo is what Calls and Options.Observe tell of a call.
type CallInfo struct {
	Verb    string
	Mode    Mode
	Inbound bool // the other side opened it
	Since   time.Time
	Took    time.Duration // 0 while it runs
	Err     error         // how it ended; nil while it runs, or well
}

// defaults fills in what is not set.
func (o Options) defaults() Options {
	o.Window = cmp.Or(max(o.Window, 0), DefaultWindow)
	budget := int64(DefaultBudget)
	if !o.host { // a supervisor is no stranger, and may have all its calls be dialogs
		budget *= 16
	}
	o.Budget = cmp.Or(max(o.Budget, 0), budget)
	o.Calls = cmp.Or(max(o.Calls, 0), DefaultCalls)
	o.Grace = cmp.Or(max(o.Grace, 0), DefaultGrace)
	return o
}
