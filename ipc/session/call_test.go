package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestManyCallsBothWaysAtOnce(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var host, program Mux
		Handle(&program, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
		Handle(&host, "half", func(_ context.Context, n int) (int, error) { return n / 2, nil })
		h, p := pair(t, over, Options{Mux: &host}, Options{Mux: &program})
		ctx := bounded(t)
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				if got, err := Call[int, int](ctx, h, "double", i); err != nil || got != 2*i {
					t.Errorf("double %d: %d, %v", i, got, err)
				}
			})
			all.Go(func() {
				if got, err := Call[int, int](ctx, p, "half", i); err != nil || got != i/2 {
					t.Errorf("half %d: %d, %v", i, got, err)
				}
			})
		}
		all.Wait()
		if err := h.Ping(ctx); err != nil {
			t.Error(err)
		}
		if left := append(h.Calls(), p.Calls()...); len(left) > 0 {
			t.Error(left)
		}
	})
}

// Many large payloads at once are more than may gather: callers wait, and nobody is cut off.
func TestManyLargeCallsAtOnce(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		Handle(&program, "echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
		h, _ := pair(t, over, Options{}, Options{Mux: &program, Budget: 1 << 30})
		ctx := bounded(t)
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				big := bytes.Repeat([]byte{byte(i)}, 1<<20-64)
				if got, err := Call[[]byte, []byte](ctx, h, "echo", big); err != nil || !bytes.Equal(got, big) {
					t.Errorf("echo: %d bytes, %v", len(got), err)
				}
			})
		}
		all.Wait()
	})
}

func TestPayloadsOfEverySizeArriveWhole(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		Handle(&program, "echo", func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
		h, _ := pair(t, over, Options{}, Options{Mux: &program})
		for _, n := range []int{0, 1, byPart - 4, byPart - 3, byPart, 64<<10 - 20, 64 << 10, 64<<10 + 1, 1<<20 - 64} {
			b := bytes.Repeat([]byte("sandboxd"), n/8+1)[:n]
			if got, err := Call[[]byte, []byte](bounded(t), h, "echo", b); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%d bytes: %d, %v", n, len(got), err)
			}
		}
		if _, err := Call[[]byte, []byte](bounded(t), h, "echo", make([]byte, 1<<20)); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
}

func TestRefusedCallsSayWhy(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		Handle(&program, "int", func(_ context.Context, n int) (int, error) { return n, nil })
		HandleStream(&program, "dialog", func(_ context.Context, n int, _ ServerStream[int, int]) (int, error) { return n, nil })
		program.Add("none", Unary, func(context.Context, *Inbound) ([]byte, error) { return nil, nil })
		program.Add("junk", Unary, func(context.Context, *Inbound) ([]byte, error) { return []byte{0xc1}, nil })
		program.Add("deep", Unary, func(context.Context, *Inbound) ([]byte, error) {
			return append(bytes.Repeat([]byte{0x91}, 31), 0x90), nil
		})
		Handle(&program, "large", func(context.Context, int) ([]byte, error) { return make([]byte, 1<<20), nil })
		Handle(&program, "panic", func(context.Context, int) (int, error) { panic("oh") })
		Handle(&program, "goexit", func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
		h, _ := pair(t, over, Options{}, Options{Mux: &program})
		ctx := bounded(t)
		ask := func(verb string) error { _, err := Call[int, int](ctx, h, verb, 1); return err }
		_, wrong := Call[string, int](ctx, h, "int", "one")
		_, dialog := OpenStream[int, int](ctx, h, "nothing", 1)
		_, answer := Call[int, string](ctx, h, "int", 1)
		st, err := OpenStream[int, int](ctx, h, "int", 1)
		if err != nil || dialog != nil {
			t.Fatal(err, dialog)
		}
		for _, r := range []struct {
			name string
			err  error
			is   error
			says string
		}{
			{"unknown", ask("nothing"), ErrUnknownVerb, `"nothing"`},
			{"dialog as a call", ask("dialog"), ErrWrongMode, `"dialog"`},
			{"call as a dialog", st.Result(ctx, nil), ErrWrongMode, `"int"`},
			{"payload", wrong, ErrBadPayload, "worker (0.1): sandboxd.BadPayload"},
			{"answer", answer, ErrBadPayload, "answer of int"},
			{"junk", ask("junk"), ErrBadPayload, "result of junk"},
			{"deep", ask("deep"), ErrBadPayload, "nest too deeply"},
			{"large", ask("large"), nil, "result of large: the frame is too large"},
			{"panic", ask("panic"), ErrPanic, "oh"},
			{"goexit", ask("goexit"), ErrPanic, "Goexit"},
			{"empty verb", ask(""), nil, "want 1 to 128 bytes"},
			{"long verb", ask(strings.Repeat("v", 129)), nil, "want 1 to 128 bytes"},
			{"no text", ask("\xff"), nil, "want 1 to 128 bytes"},
		} {
			if r.err == nil || r.is != nil && !errors.Is(r.err, r.is) || !strings.Contains(r.err.Error(), r.says) {
				t.Errorf("%s: %v, want %v, %q", r.name, r.err, r.is, r.says)
			}
		}
		if b, err := h.Call(ctx, "none", nil); err != nil || !bytes.Equal(b, nilPayload) {
			t.Errorf("no bytes at all: %x, %v", b, err) // nil both ways
		}
		if _, err := h.Call(ctx, "none", []byte{0xc1}); !errors.Is(err, ErrBadPayload) {
			t.Error(err)
		}
		var p *RemoteError
		if !errors.As(ask("panic"), &p) || !strings.Contains(p.Stack, "call_test.go") {
			t.Errorf("%+v", p)
		}
		if err := h.Ping(ctx); err != nil {
			t.Error("the session did not outlive it:", err)
		}
	})
}

func TestCallsBeyondTheLimitsAreBusy(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		for _, r := range []struct {
			held []int // bytes of the calls that are open
			says string
		}{
			{[]int{2000}, "1 are open, with 2003 bytes"}, // one may be larger than the budget: else it could never be made
			{[]int{1, 1, 1}, "3 are open"},
		} {
			var program Mux
			free, entered := make(chan struct{}), make(chan struct{})
			program.Add("hold", Unary, func(context.Context, *Inbound) ([]byte, error) {
				entered <- struct{}{}
				<-free
				return nil, nil
			})
			h, _ := pair(t, over, Options{}, Options{Mux: &program, Calls: 3, Budget: 1000})
			ctx := bounded(t)
			var all sync.WaitGroup
			for _, n := range r.held {
				all.Go(func() {
					if _, err := Call[[]byte, *int](ctx, h, "hold", make([]byte, n)); err != nil {
						t.Error(err)
					}
				})
				<-entered
			}
			if _, err := Call[[]byte, *int](ctx, h, "hold", nil); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), r.says) {
				t.Error(err)
			}
			close(free)
			all.Wait()
		}
	})
}

// A function that does not look at its context keeps its place: an opener with short deadlines cannot pile up more.
func TestFunctionKeepsItsPlaceUntilItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var program Mux
		free := make(chan struct{})
		program.Add("deaf", Unary, func(context.Context, *Inbound) ([]byte, error) { <-free; return nil, nil })
		h, _ := pair(t, pipes, Options{}, Options{Mux: &program, Calls: 2})
		for i := range 4 {
			ctx, stop := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := h.Call(ctx, "deaf", nil)
			stop()
			if want := []error{context.DeadlineExceeded, ErrBusy}[i/2]; !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", i, err, want)
			}
		}
		close(free)
		synctest.Wait()
		if _, err := h.Call(t.Context(), "deaf", nil); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlineTravelsAndEndsBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var program Mux
		saw := make(chan time.Duration, 1)
		Handle(&program, "wait", func(ctx context.Context, _ int) (int, error) {
			d, _ := ctx.Deadline()
			saw <- time.Until(d)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		h, p := pair(t, pipes, Options{}, Options{Mux: &program})
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		began := time.Now()
		_, err := Call[int, int](ctx, h, "wait", 1)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTooSlow) || took != 3*time.Second {
			t.Error(err, took)
		}
		if d := <-saw; d != 3*time.Second {
			t.Error(d)
		}
		synctest.Wait()
		if left := p.Calls(); len(left) > 0 {
			t.Error(left)
		}
		gone, end := context.WithTimeout(t.Context(), -1)
		defer end()
		if _, err := Call[int, int](gone, h, "wait", 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancelled, cancel := context.WithCancelCause(t.Context())
		cancel(errOwn)
		if _, err := Call[int, int](cancelled, h, "wait", 1); !errors.Is(err, errOwn) {
			t.Error(err)
		}
	})
}

var errOwn = errors.New("a cause of one's own")

// How the end of a cancelled call looks, by what its server does then.
func TestCancelledCall(t *testing.T) {
	rows := []struct {
		name   string
		answer []message // to CANCEL
		late   bool      // after the grace
		result string
		is     []error
		not    []error
	}{
		{"obeys", []message{{kind: cancelAck, cid: 2}, {kind: fail, cid: 2, err: &RemoteError{Type: typeCancelled, Canceller: hostRef}}}, false, "", []error{context.Canceled}, []error{ErrTooSlow}},
		{"obeys and says nothing of who", []message{{kind: cancelAck, cid: 2}, {kind: fail, cid: 2, err: &RemoteError{Type: typeCancelled}}}, false, "", []error{context.Canceled}, []error{ErrTooSlow}},
		{"result was on its way", []message{{kind: giveBack, cid: 2, payload: []byte{7}}}, false, "\x07", nil, nil},
		{"acknowledged, result nevertheless", []message{{kind: cancelAck, cid: 2}, {kind: giveBack, cid: 2, payload: []byte{7}}}, false, "\x07", nil, nil},
		{"fails with an error of its own", []message{{kind: cancelAck, cid: 2}, {kind: fail, cid: 2, err: &RemoteError{Type: "X"}}}, false, "", nil, []error{context.Canceled}},
		{"acknowledges only", []message{{kind: cancelAck, cid: 2}}, false, "", []error{ErrTooSlow, context.Canceled}, nil},
		{"does nothing", nil, false, "", []error{ErrTooSlow, context.Canceled}, nil},
		{"answers late", []message{{kind: cancelAck, cid: 2}, {kind: giveBack, cid: 2, payload: []byte{7}}}, true, "", []error{ErrTooSlow}, nil},
		{"was cancelled by somebody else", []message{{kind: cancelAck, cid: 2}, {kind: fail, cid: 2, err: &RemoteError{Type: typeCancelled, Canceller: Ref{"9", "other"}}}}, false, "", []error{context.Canceled}, []error{errOwn}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := scripted(t, pipes, true, false, Options{Grace: time.Second})
				ctx, cancel := context.WithCancelCause(t.Context())
				got := make(chan error, 1)
				var result []byte
				go func() {
					var err error
					result, err = s.Call(ctx, "v", nil)
					got <- err
				}()
				p.want(start)
				cancel(fmt.Errorf("%w: %w", errOwn, context.Canceled))
				m := p.want(cancel_)
				if m.by != hostRef || m.left != 1000 || !strings.Contains(m.reason, "a cause of one's own") {
					t.Errorf("%+v", m)
				}
				if r.late {
					time.Sleep(2 * time.Second)
				}
				p.send(r.answer...)
				err := <-got
				if string(result) != r.result || (err == nil) != (r.result != "") {
					t.Errorf("%x, %v", result, err)
				}
				for _, is := range r.is {
					if !errors.Is(err, is) {
						t.Errorf("%v is not %v", err, is)
					}
				}
				for _, not := range r.not {
					if errors.Is(err, not) {
						t.Errorf("%v is %v", err, not)
					}
				}
				if slow, ok := errors.AsType[*TooSlowError](err); ok && !r.late && slow.Acked != (len(r.answer) > 0) {
					t.Errorf("%+v", slow)
				}
				if err := pingScript(s, p); err != nil {
					t.Error("the session did not outlive it:", err)
				}
			})
		})
	}
}

const cancel_ = cancel // where a test's own cancel hides it

// pingScript sees that the session is there, by a PING that the script answers.
func pingScript(s *Session, p *script) error {
	go func() {
		m := p.next()
		p.send(message{kind: pong, n: m.n})
	}()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	return s.Ping(ctx)
}

// A deadline that the other side does not keep is told as such, not as the deadline alone.
func TestTooSlowIsNotMaskedByTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := scripted(t, pipes, true, false, Options{Grace: time.Second})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		began := time.Now()
		_, err := s.Call(ctx, "v", nil)
		slow, ok := errors.AsType[*TooSlowError](err)
		if !ok || slow.Acked || slow.Verb != "v" || slow.Peer != workRef || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("%v %+v %v", err, slow, time.Since(began))
		}
		if !strings.Contains(err.Error(), "did not even acknowledge") {
			t.Error(err)
		}
		p.want(start)
		p.want(cancel)
	})
}

// chain is a supervisor with two programs: what outer's verb "pass" is asked, it
// asks of inner's verb v, through the supervisor.
func chain(t *testing.T, over transport, v string, inner *Mux) (toOuter, toInner *Session) {
	t.Helper()
	toInner, _ = pairAs(t, over, Ref{"0.2", "inner"}, Options{}, Options{Mux: inner})
	var host, outer Mux
	host.Add("reach", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) { return toInner.Call(ctx, v, c.Payload()) })
	host.Add("reach.dialog", Dialog, func(ctx context.Context, c *Inbound) ([]byte, error) {
		to, err := toInner.Open(ctx, v, c.Payload())
		if err != nil {
			return nil, err
		}
		return Relay(ctx, c.Stream(), to)
	})
	outer.Add("pass", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) {
		return c.Session().Call(ctx, "reach", c.Payload())
	})
	toOuter, _ = pairAs(t, over, Ref{"0.1", "outer"}, Options{Mux: &host}, Options{Mux: &outer})
	return toOuter, toInner
}

func TestCancellerIsKnownAtEveryHop(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		entered, saw := make(chan struct{}), make(chan error, 1)
		var inner Mux
		inner.Add("v", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			saw <- context.Cause(ctx)
			return nil, ctx.Err()
		})
		h, _ := chain(t, over, "v", &inner)
		ctx, cancel := context.WithCancelCause(bounded(t))
		who := &Cancelled{By: Ref{"0.9", "somebody"}, Reason: "it is late"}
		go func() {
			<-entered
			cancel(who)
		}()
		_, err := h.Call(ctx, "pass", nil)
		if c, ok := errors.AsType[*Cancelled](err); !ok || *c != *who || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if c, ok := errors.AsType[*Cancelled](<-saw); !ok || *c != *who {
			t.Error(c)
		}
	})
}

func TestThirdPartyCancellerIsKnownToTheCaller(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		entered := make(chan *Session)
		var inner Mux
		inner.Add("v", Unary, func(ctx context.Context, c *Inbound) ([]byte, error) {
			entered <- c.Session()
			<-ctx.Done()
			return nil, ctx.Err()
		})
		h, _ := chain(t, over, "v", &inner)
		third := Ref{"0.9", "third"}
		go func() {
			(<-entered).Drain(bounded(t), &Cancelled{By: third, Reason: "restart"})
		}()
		_, err := h.Call(bounded(t), "pass", nil)
		r, ok := errors.AsType[*RemoteError](err)
		if !ok || r.Canceller != third || !errors.Is(err, context.Canceled) {
			t.Fatalf("%v", err)
		}
		if r.Source != (Ref{"0.2", "inner"}) || fmt.Sprint(r.Relay) != "[host (0) outer (0.1)]" {
			t.Errorf("%+v", r)
		}
	})
}

func TestObserveIsToldOfEveryCall(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		Handle(&program, "ok", func(_ context.Context, n int) (int, error) { return n, nil })
		Handle(&program, "bad", func(_ context.Context, n int) (int, error) { return 0, errors.New("bad") })
		made, served := make(chan CallInfo, 10), make(chan CallInfo, 10)
		h, _ := pair(t, over, Options{Observe: func(c CallInfo) { made <- c }}, Options{Mux: &program, Observe: func(c CallInfo) { served <- c }})
		for i, verb := range []string{"ok", "bad"} {
			_, _ = Call[int, int](bounded(t), h, verb, 1)
			a, b := <-made, <-served
			if a.Verb != verb || b.Verb != verb || a.Inbound || !b.Inbound || (a.Err != nil) != (i == 1) || (b.Err != nil) != (i == 1) {
				t.Errorf("%+v\n%+v", a, b)
			}
		}
	})
}

func TestHeadersTravelAndAreChecked(t *testing.T) {
	both(t, func(t *testing.T, over transport) {
		var program Mux
		Handle(&program, "v", func(context.Context, int) (int, error) { return 0, nil })
		got := make(chan map[string]string, 1)
		var headers map[string]string
		h, _ := pair(t, over, Options{Headers: func(context.Context) map[string]string { return headers }}, Options{Mux: &program,
			Context: func(ctx context.Context, c *Inbound) context.Context { got <- c.Headers(); return ctx }})
		headers = map[string]string{"traceparent": "00-1-2-03", "b": ""}
		if _, err := Call[int, int](bounded(t), h, "v", 1); err != nil || fmt.Sprint(<-got) != fmt.Sprint(headers) {
			t.Error(err)
		}
		many := map[string]string{}
		for i := range 17 {
			many[fmt.Sprint(i)] = ""
		}
		for _, headers = range []map[string]string{many, {strings.Repeat("k", 65): ""}, {"k": strings.Repeat("v", 513)}, {"k": "\xff"}} {
			if _, err := Call[int, int](bounded(t), h, "v", 1); !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
		}
	})
}
