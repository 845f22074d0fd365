package sandboxtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"sandboxd/ipc/session"
	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
	"sandboxd/sandbox/sandboxtest"
)

// programs are what the tests run as actors.
var programs = sandboxtest.Memory{
	"worker": worker, "deaf": deaf, "stubborn": stubborn, "mute": mute, "exit": exits,
	"garbage": garbage, "proto": wrongProto, "brief": brief, "knock": knock,
}

// QuotaError is an error with fields that both sides know.
type QuotaError struct{ Limit int }

func (e *QuotaError) Error() string { return fmt.Sprintf("more than %d", e.Limit) }

// errFull is one that both sides know by its name.
var errFull = errors.New("full")

func init() {
	sandbox.RegisterErrorType[*QuotaError]("test.Quota")
	sandbox.RegisterError("test.Full", errFull)
}

type strange struct{}

func (strange) Error() string { return "strange" }

// who is what a worker says of itself.
type who struct {
	ID, Name string
	Epoch    uint64
}

// target is a call of another actor.
type target struct {
	ID, Verb string
	N        int
}

// worker serves everything that the tests call. Its arguments are what it does before.
func worker(ctx context.Context, env *sandboxtest.Env) int {
	conn, err := env.Dial(ctx)
	if err != nil {
		return 1
	}
	die := make(chan int) // not taken by itself, so that what comes next comes later
	var m peer.Mux
	serveCalls(ctx, &m, env, die)
	serveStreams(&m, conn, die)
	serveTree(&m)
	p, err := peer.Over(ctx, conn, &m)
	if err != nil {
		return 1
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait(ctx) }()
	select {
	case code := <-die:
		if code < 0 {
			select { // lost to the world, and with a timer, or Go takes it for a deadlock
			case <-ctx.Done():
			case <-time.After(time.Hour):
			}
		}
		return code
	case err := <-ended:
		if err != nil {
			return 1
		}
		return 0
	}
}

// begin tells the supervisor that something began.
func begin(ctx context.Context, what string) error {
	_, err := peer.Call[string, struct{}](ctx, peer.From(ctx), "began", what)
	return err
}

func serveCalls(ctx context.Context, m *peer.Mux, env *sandboxtest.Env, die chan<- int) {
	peer.Handle(m, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	peer.Handle(m, "headers", func(ctx context.Context, id string) (map[string]string, error) {
		if id == "" {
			return peer.Headers(ctx), nil
		}
		return peer.CallOther[string, map[string]string](ctx, peer.From(ctx).Other(peer.Ref{ID: id}), "headers", "")
	})
	peer.Handle(m, "echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	peer.Handle(m, "who", func(ctx context.Context, _ int) (who, error) {
		p := peer.From(ctx)
		return who{p.Self.ID, p.Self.Name, p.Epoch}, nil
	})
	peer.Handle(m, "fail", func(_ context.Context, how string) (int, error) {
		switch how {
		case "quota":
			return 0, fmt.Errorf("wrapped: %w", &QuotaError{7})
		case "full":
			return 0, fmt.Errorf("wrapped: %w", errFull)
		case "strange":
			return 0, strange{}
		case "panic":
			panic("oh")
		}
		return 0, errors.New(how)
	})
	peer.Handle(m, "sleep", func(ctx context.Context, what string) (int, error) {
		if err := begin(ctx, what); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	peer.Handle(m, "stuck", func(call context.Context, what string) (int, error) { // as in a computation
		if err := begin(call, what); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, nil
	})
	peer.Handle(m, "die", func(ctx context.Context, code int) (int, error) {
		die <- code
		<-ctx.Done()
		return 0, nil
	})
	peer.Handle(m, "noise", func(_ context.Context, n int) (int, error) {
		return fmt.Fprint(env.Stderr, strings.Repeat("x", n))
	})
}

func serveStreams(m *peer.Mux, conn io.Closer, die chan<- int) {
	peer.HandleStream(m, "produce", func(ctx context.Context, _ int, s peer.ServerStream[int, int]) (int, error) {
		if err := s.Started(ctx, "go"); err != nil {
			return 0, err
		}
		for i := 0; ; i++ { // endless
			if err := s.Send(ctx, i); err != nil {
				return i, err
			}
		}
	})
	peer.HandleStream(m, "sum", func(ctx context.Context, _ int, s peer.ServerStream[int, int]) (sum int, err error) {
		if err := s.Started(ctx, 0); err != nil {
			return 0, err
		}
		for n, err := range s.All(ctx) {
			if err != nil {
				return 0, err
			}
			sum += n
			if err := s.Send(ctx, sum); err != nil {
				return 0, err
			}
		}
		return sum, nil
	})
	peer.HandleStream(m, "early", func(ctx context.Context, _ int, s peer.ServerStream[int, int]) (int, error) {
		return 7, s.Started(ctx, 0) // and does not care for what comes
	})
	peer.HandleStream(m, "never", func(ctx context.Context, what string, _ peer.ServerStream[int, int]) (int, error) {
		if err := begin(ctx, what); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	peer.HandleStream(m, "twice", func(ctx context.Context, _ int, s peer.ServerStream[int, int]) (string, error) {
		return fmt.Sprint(s.Started(ctx, 0), s.Started(ctx, 0) != nil), nil
	})
	peer.HandleStream(m, "break", func(ctx context.Context, how string, s peer.ServerStream[int, int]) (int, error) {
		if err := errors.Join(s.Started(ctx, 0), s.Send(ctx, 1)); err != nil {
			return 0, err
		}
		if _, err := s.Recv(ctx); err != nil { // the other side has the item
			return 0, err
		}
		switch how {
		case "close":
			die <- -1
			conn.Close()
		case "garbage":
			die <- -1
			_, _ = conn.(io.Writer).Write([]byte{255, 255, 255, 255, 1})
		case "half":
			_, _ = conn.(io.Writer).Write([]byte{100, 0, 0, 0, 1})
			conn.Close()
		case "die":
			die <- 3
		case "error":
			return 0, errFull
		case "panic":
			panic("oh")
		}
		<-ctx.Done()
		return 0, nil
	})
}

func serveTree(m *peer.Mux) {
	peer.Handle(m, "spawn", func(ctx context.Context, names []string) (string, error) { // kind, name
		o, err := peer.From(ctx).Spawn(ctx, names[0], names[1])
		if err != nil {
			return "", err
		}
		return o.ID, nil
	})
	peer.Handle(m, "cancel", func(ctx context.Context, id string) (peer.Exit, error) {
		o := peer.From(ctx).Other(peer.Ref{ID: id})
		if err := o.Cancel(ctx, "enough"); err != nil {
			return peer.Exit{}, err
		}
		return o.Wait(ctx)
	})
	peer.Handle(m, "wait", func(ctx context.Context, id string) (peer.Exit, error) {
		return peer.From(ctx).Other(peer.Ref{ID: id}).Wait(ctx)
	})
	peer.Handle(m, "call", func(ctx context.Context, q target) (int, error) {
		return peer.CallOther[int, int](ctx, peer.From(ctx).Other(peer.Ref{ID: q.ID}), q.Verb, q.N)
	})
	peer.Handle(m, "tell", func(ctx context.Context, q target) (int, error) { // call, of a verb that takes a string
		return peer.CallOther[string, int](ctx, peer.From(ctx).Other(peer.Ref{ID: q.ID}), q.Verb, "told")
	})
	peer.Handle(m, "stream", func(ctx context.Context, id string) (sum int, err error) {
		s, err := peer.OpenOther[int, int](ctx, peer.From(ctx).Other(peer.Ref{ID: id}), "sum", 0)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		for i := range 10 {
			if err := s.Send(ctx, i); err != nil {
				return 0, err
			}
		}
		if err := s.CloseSend(); err != nil {
			return 0, err
		}
		return sum, s.Result(ctx, &sum)
	})
	peer.Handle(m, "find", func(ctx context.Context, name string) (ids []string, err error) {
		all, err := peer.From(ctx).Find(ctx, name)
		for _, o := range all {
			ids = append(ids, o.ID)
		}
		return ids, err
	})
	peer.Handle(m, "await", func(ctx context.Context, name string) (string, error) {
		o, err := peer.From(ctx).Await(ctx, name)
		if err != nil {
			return "", err
		}
		return o.ID, nil
	})
	// grow makes a tree below this actor: breadth children, each of which grows on, and of the
	// innermost ones does what the last field says.
	peer.Handle(m, "grow", grow)
}

type growth struct {
	Depth, Breadth, Noise int
	Leaf                  string // verb that the innermost call of themselves; "": none
}

func grow(ctx context.Context, g growth) (int, error) {
	p := peer.From(ctx)
	made := 0
	results := make(chan error, g.Breadth)
	for i := range g.Breadth {
		kid, err := p.Spawn(ctx, "worker", p.Self.Name+"."+strconv.Itoa(i))
		if err != nil {
			return made, err
		}
		made++
		if g.Noise > 0 {
			if _, err := peer.CallOther[int, int](ctx, kid, "noise", g.Noise); err != nil {
				return made, err
			}
		}
		if g.Depth > 1 {
			below := g
			below.Depth--
			n, err := peer.CallOther[growth, int](ctx, kid, "grow", below)
			if err != nil {
				return made, err
			}
			made += n
		} else if g.Leaf != "" {
			go func() {
				_, err := peer.CallOther[string, int](context.WithoutCancel(ctx), kid, g.Leaf, kid.Name)
				results <- err
			}()
			continue
		}
		results <- nil
	}
	if g.Depth == 1 && g.Leaf == "fail" {
		var all []error
		for range g.Breadth {
			all = append(all, <-results)
		}
		return made, errors.Join(all...)
	}
	return made, nil
}

// deaf serves, acknowledges a cancel, and obeys nothing but force.
func deaf(ctx context.Context, env *sandboxtest.Env) int {
	env.TakeSignals()
	conn, err := env.Dial(ctx)
	if err != nil {
		return 1
	}
	var m peer.Mux
	serveCalls(ctx, &m, env, nil)
	if _, err := peer.Over(ctx, conn, &m); err != nil {
		return 1
	}
	<-ctx.Done()
	return 0
}

// stubborn serves, and obeys SIGTERM only.
func stubborn(ctx context.Context, env *sandboxtest.Env) int {
	env.TakeSignals()
	conn, err := env.Dial(ctx)
	if err != nil {
		return 1
	}
	if _, err := peer.Over(ctx, conn, nil); err != nil {
		return 1
	}
	select {
	case <-env.Signals:
		return 9
	case <-ctx.Done():
		return 0
	}
}

// mute never connects.
func mute(ctx context.Context, env *sandboxtest.Env) int {
	env.TakeSignals()
	<-ctx.Done()
	return 0
}

// exits ends at once with the status of its argument.
func exits(_ context.Context, env *sandboxtest.Env) int {
	code, _ := strconv.Atoi(env.Args[1])
	return code
}

// garbage says what is no hello.
func garbage(ctx context.Context, env *sandboxtest.Env) int {
	conn, err := env.Dial(ctx)
	if err != nil {
		return 1
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	_, _ = conn.Write([]byte{3, 0, 0, 0, 0x91, 1, 2})
	<-ctx.Done()
	return 0
}

// wrongProto speaks another version.
func wrongProto(ctx context.Context, env *sandboxtest.Env) int {
	conn, err := env.Dial(ctx)
	if err != nil {
		return 1
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	_, _ = conn.Write([]byte{6, 0, 0, 0, 0x95, 16, 2, 0xa0, 0x90, 0})
	<-ctx.Done()
	return 0
}

// brief says hello and dies.
func brief(ctx context.Context, env *sandboxtest.Env) int {
	conn, err := env.Dial(ctx)
	if err != nil {
		return 1
	}
	if _, err := peer.Over(ctx, conn, nil); err != nil {
		return 1
	}
	return 4
}

// knock connects and says nothing, asks as a probe, and only then is a worker.
func knock(ctx context.Context, env *sandboxtest.Env) int {
	for range 20 {
		conn, err := env.Dial(ctx)
		if err != nil {
			return 1
		}
		conn.Close()
		if conn, err = env.Dial(ctx); err != nil {
			return 1
		}
		if _, _, err := session.Join(ctx, conn, session.Hello{SDK: "probe", Probe: true}, session.Options{}); err != nil {
			return 1
		}
	}
	return worker(ctx, env)
}
