package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"sandboxd/sandbox/peer"
)

// funcName is the name under which this program is started as an actor that
// serves one of its own functions; see Main.
const funcName = "sandboxd-func"

var funcs = struct {
	sync.Mutex
	serve map[string]func(*Mux)
}{serve: map[string]func(*Mux){}}

// Function is a function of this program that runs in an actor of its own; see Func.
type Function[Req, Resp any] struct{ name string }

// Func makes f a function that can be isolated: an actor that runs this same
// program, in a sandbox of its own, and serves nothing but f. Functions are made
// in package variables, so that they are there when Main looks.
//
//	var resize = sandbox.Func("resize", func(ctx context.Context, job Job) (Result, error) { … })
//
//	func main() {
//		sandbox.Main()
//		result, err := resize.Run(ctx, Job{…})
//	}
//
// What f sees is the sandbox: no files of the caller, no network, and none of
// the variables that main has set. A name that is taken panics.
func Func[Req, Resp any](name string, f func(context.Context, Req) (Resp, error)) Function[Req, Resp] {
	funcs.Lock()
	defer funcs.Unlock()
	if name == "" || funcs.serve[name] != nil {
		panic(fmt.Sprintf("sandbox: function name %q is empty or taken", name))
	}
	funcs.serve[name] = func(m *Mux) { Handle(m, name, f) }
	return Function[Req, Resp]{name}
}

// Main must be the first thing that main does in a program that has functions
// made by Func. In the program itself it does nothing; in an actor it serves
// the function and does not return.
func Main() {
	if len(os.Args) < 2 || os.Args[0] != funcName {
		return
	}
	serve := funcs.serve[os.Args[1]]
	if serve == nil {
		fmt.Fprintf(os.Stderr, "sandbox: this program has no function %q; is it made by sandbox.Func in a package variable?\n", os.Args[1])
		os.Exit(1)
	}
	var m Mux
	serve(&m)
	if err := peer.Serve(context.Background(), &m); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// This is an actor that runs this same program with other arguments: what it
// does then, main decides, and serves by package peer.
func This(args ...string) Spec {
	return Spec{Argv: append([]string{filepath.Base(os.Args[0])}, args...), Peer: true, self: true}
}

// Spec is an actor that serves the function. Fields may be changed, but for Argv and Peer.
func (f Function[Req, Resp]) Spec() Spec {
	return Spec{Name: f.name, Argv: []string{funcName, f.name}, Peer: true, self: true}
}

// Call calls the function in an actor that was started with its Spec.
func (f Function[Req, Resp]) Call(ctx context.Context, a *Actor, req Req) (Resp, error) {
	return Call[Req, Resp](ctx, a, f.name, req)
}

// In calls the function once, in an actor of n that lives for this call.
func (f Function[Req, Resp]) In(ctx context.Context, n *Nursery, req Req) (Resp, error) {
	return Once[Req, Resp](ctx, n, f.Spec(), f.name, req)
}

// Run calls the function once, in a sandbox that is made for this call. A
// program that calls often has a nursery; see In.
func (f Function[Req, Resp]) Run(ctx context.Context, req Req) (resp Resp, err error) {
	err = Run(ctx, func(ctx context.Context, n *Nursery) error {
		resp, err = f.In(ctx, n, req)
		return err
	})
	return resp, err
}

// Once starts an actor, makes one call of it, and ends it: the answer comes
// when nothing of it is left. How the actor failed is the caller's to know: it
// fails no scope, and is not started again. ctx bounds start and call.
func Once[Req, Resp any](ctx context.Context, n *Nursery, s Spec, verb string, req Req) (Resp, error) {
	var resp Resp
	a, err := n.start(ctx, s, once)
	if err != nil {
		return resp, err
	}
	resp, err = Call[Req, Resp](ctx, a, verb, req)
	if cerr := a.Cancel(context.WithoutCancel(ctx), "its one call is over"); err == nil {
		err = cerr
	}
	return resp, err
}
