package sandboxtest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sandboxd/ipc/codec"
	"sandboxd/sandbox"
)

// pyQuota is an error of the Python program, with fields that both sides know.
type pyQuota struct {
	Used  int `msgpack:"used"`
	Limit int `msgpack:"limit"`
}

func (e *pyQuota) Error() string { return "over quota" }

func init() { sandbox.RegisterErrorType[*pyQuota]("shop.QuotaError") }

// pyWho is what the Python program knows of itself and of a call.
type pyWho struct {
	ID       string            `msgpack:"id"`
	Name     string            `msgpack:"name"`
	Epoch    uint64            `msgpack:"epoch"`
	Limits   map[string]int64  `msgpack:"limits"`
	Verbs    []string          `msgpack:"verbs"`
	TimeLeft *float64          `msgpack:"time_left"`
	Headers  map[string]string `msgpack:"headers"`
	FrameCap int               `msgpack:"frame_cap"`
}

// serveEcho serves what the Python program calls as host.echo.
func serveEcho(c *scope) {
	sandbox.Handle(&c.mux, "host.echo", func(_ context.Context, v codec.Raw) (codec.Raw, error) { return v, nil })
}

func TestPythonCalls(t *testing.T) {
	eachPython(t, func(c *scope) {
		serveEcho(c)
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			bounded, stop := context.WithTimeout(ctx, time.Hour)
			defer stop()
			me, err := sandbox.Call[any, pyWho](bounded, a, "who", nil)
			if err != nil {
				return err
			}
			if me.ID != a.Ref().ID || me.Name != "py" || me.Epoch != 1 || !slices.Equal(me.Verbs, []string{"began", "host.echo"}) {
				c.Errorf("%+v", me)
			}
			if me.TimeLeft == nil || *me.TimeLeft <= 0 || *me.TimeLeft > 3600 || me.Headers["x"] != "trace" {
				c.Errorf("time left %v, headers %v", me.TimeLeft, me.Headers)
			}
			if _, disk := me.Limits["disk"]; me.Limits["files"] != 1024 || me.Limits["output"] != 1<<30 || disk != (c.name == "native") {
				c.Errorf("limits %v; want those that hold", me.Limits)
			}
			for _, verb := range []string{"echo", "back", "sback"} { // there, or there and back, once more
				big := bytes.Repeat([]byte{7}, me.FrameCap-1024)
				if got, err := sandbox.Call[[]byte, []byte](ctx, a, verb, big); err != nil || !bytes.Equal(got, big) {
					c.Errorf("%s of %d bytes: %d came, %v", verb, len(big), len(got), err)
				}
				odd := map[string][]float64{"é": {1.5, -0.25}, "": nil}
				got, err := sandbox.Call[map[string][]float64, map[string][]float64](ctx, a, verb, odd)
				if err != nil || len(got) != 2 || !slices.Equal(got["é"], odd["é"]) {
					c.Errorf("%s: %v, %v", verb, got, err)
				}
			}
			var all sync.WaitGroup
			for i := range 100 { // more than it has threads for
				verb := []string{"double", "back", "sback"}[i%3]
				all.Go(func() {
					want := i
					if verb == "double" {
						want = 2 * i
					}
					if got, err := sandbox.Call[int, int](ctx, a, verb, i); got != want || err != nil {
						c.Errorf("%s of %d: %d, %v", verb, i, got, err)
					}
				})
			}
			all.Wait()
			said, err := sandbox.Call[any, string](ctx, a, "ping", nil)
			if err != nil || said != "pong" {
				c.Error(said, err)
			}
			return a.Ping(ctx)
		}, sandbox.Headers(func(context.Context) map[string]string { return map[string]string{"x": "trace"} }))
	})
}

func TestPythonErrors(t *testing.T) {
	eachPython(t, func(c *scope) {
		sandbox.Handle(&c.mux, "host.fail", func(_ context.Context, limit int) (int, error) {
			if limit == 0 {
				return 0, errFull
			}
			return 0, &QuotaError{limit}
		})
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			for how, want := range map[string]struct {
				kind, says string
				is         error
			}{
				"value": {"ValueError", "value", nil}, "odd": {"__main__.OddError", "odd", nil}, "quota": {"shop.QuotaError", "5 of 3 used", nil},
				"denied": {"sandboxd.Denied", "not you", sandbox.ErrDenied}, "exit": {"sandboxd.Panic", "SystemExit: 3", sandbox.ErrPanic},
				"set": {"sandboxd.BadPayload", "", sandbox.ErrBadPayload}, "recursion": {"RecursionError", "", nil}, "long": {"ValueError", strings.Repeat("é", 8<<10), nil},
			} {
				_, err := sandbox.Call[string, int](ctx, a, "fail", how)
				remote, ok := errors.AsType[*sandbox.RemoteError](err)
				switch {
				case !ok || remote.Type != want.kind || !strings.Contains(remote.Message, want.says) || want.is != nil && !errors.Is(err, want.is):
					c.Errorf("%s: %.300v", how, err)
				case remote.Source != a.Ref() || len(remote.Relay) != 0 || how == "value" && !strings.Contains(remote.Stack, "actor_under_test.py"):
					c.Errorf("%s: source %v, relay %v, stack %q", how, remote.Source, remote.Relay, remote.Stack)
				}
				if quota, ok := errors.AsType[*pyQuota](err); ok != (how == "quota") || ok && *quota != (pyQuota{5, 3}) {
					c.Errorf("%s: %+v", how, quota)
				}
			}
			for _, limit := range []int{0, 9} { // ours, there and back
				_, err := sandbox.Call[any, int](ctx, a, "relay", []any{"host.fail", limit, nil})
				remote, ok := errors.AsType[*sandbox.RemoteError](err)
				if !ok || remote.Source.ID != "0" || !slices.Equal(remote.Relay, []sandbox.Ref{a.Ref()}) {
					c.Errorf("%+v", remote)
				}
				if quota, ok := errors.AsType[*QuotaError](err); errors.Is(err, errFull) != (limit == 0) || ok != (limit == 9) || ok && quota.Limit != 9 {
					c.Errorf("of %d came %v", limit, err)
				}
			}
			_, err := sandbox.Call[any, int](ctx, a, "forge", nil)
			if remote, ok := errors.AsType[*sandbox.RemoteError](err); !ok || len(remote.Relay) == 0 || remote.Relay[len(remote.Relay)-1] != a.Ref() {
				c.Errorf("a forged error: %+v", remote) // whoever is said to have failed, the program has said it
			}
			_, err = sandbox.Call[string, int](ctx, a, "double", "x")
			_, answer := sandbox.Call[int, string](ctx, a, "double", 1)
			_, deep := sandbox.Call[int, codec.Raw](ctx, a, "nested", 32)
			for _, err := range []error{err, answer, deep} {
				if !errors.Is(err, sandbox.ErrBadPayload) {
					c.Error(err)
				}
			}
			_, err = sandbox.Call[int, int](ctx, a, "os._exit", 1)
			_, mode := sandbox.Call[int, int](ctx, a, "count", 1)
			_, ours := sandbox.Call[any, int](ctx, a, "relay", []any{"no.such", nil, nil})
			if !errors.Is(err, sandbox.ErrUnknownVerb) || !errors.Is(mode, sandbox.ErrWrongMode) || !errors.Is(ours, sandbox.ErrUnknownVerb) {
				c.Error(err, mode, ours)
			}
			first, err := sandbox.Call[any, string](ctx, a, "after-end", nil)
			if err != nil || first != "first" {
				c.Error(first, err)
			}
			return a.Ping(ctx)
		})
	})
}

func TestPythonDeadlineAndCancelCross(t *testing.T) {
	eachPython(t, func(c *scope) {
		entered, ended := make(chan time.Duration, 1), make(chan error, 1) // with how much time left, and why
		sandbox.Handle(&c.mux, "host.wait", func(ctx context.Context, _ codec.Raw) (int, error) {
			by, _ := ctx.Deadline() // at the latest that of the test
			entered <- time.Until(by)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return 0, context.Cause(ctx)
		})
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			soon, stop := context.WithTimeout(ctx, 300*time.Millisecond)
			defer stop()
			if _, err := sandbox.Call[any, int](soon, a, "relay", []any{"host.wait", nil, nil}); !errors.Is(err, context.DeadlineExceeded) {
				c.Error("a deadline of ours:", err)
			}
			if left, err := <-entered, <-ended; left > 300*time.Millisecond {
				c.Errorf("our deadline came back to us as %v, %v", left, err)
			}
			_, err := sandbox.Call[any, int](ctx, a, "relay", []any{"host.wait", nil, 0.1})
			remote, ok := errors.AsType[*sandbox.RemoteError](err)
			if !ok || !errors.Is(err, context.DeadlineExceeded) || remote.Source != a.Ref() && !slices.Contains(remote.Relay, a.Ref()) {
				c.Error("a deadline of its own:", err)
			}
			if left, err := <-entered, <-ended; left > 100*time.Millisecond {
				c.Errorf("its deadline reached us as %v, %v", left, err)
			}
			for _, verb := range []string{"relay", "sleep", "block", "spin"} {
				call, stop := context.WithCancelCause(ctx)
				defer stop(nil)
				over := make(chan error, 1)
				var q any
				switch verb {
				case "relay":
					q = []any{"host.wait", nil, nil}
				case "sleep", "block":
					q = 3600
				}
				go func() {
					_, err := sandbox.Call[any, codec.Raw](call, a, verb, q)
					over <- err
				}()
				if verb == "relay" {
					<-entered
				} else if err := c.called(ctx, n, verb); err != nil {
					return err
				}
				stop(&sandbox.CancelCause{By: sandbox.Ref{ID: "0", Name: "supervisor"}, Reason: "enough"})
				if err := <-over; !errors.Is(err, context.Canceled) || errors.Is(err, sandbox.ErrTooSlow) {
					c.Errorf("cancel of %s: %v", verb, err)
				}
				if verb == "relay" {
					if err := <-ended; !errors.Is(err, context.Canceled) {
						c.Errorf("the cancel came back to us as %v", err)
					}
				}
			}
			return a.Ping(ctx)
		}, sandbox.Grace(longGrace)) // and it ends when asked, though two of its threads are lost
		if r := c.rungs("py"); !slices.Equal(r, []sandbox.Rung{sandbox.RungMessage}) {
			c.Errorf("rungs: %v", r)
		}
	})
}

// called waits until a dump of the nursery shows a call of that verb.
func (c *scope) called(ctx context.Context, n *sandbox.Nursery, verb string) error {
	want := regexp.MustCompile(`(?m)^ +call of it: "` + verb + `", for `)
	for {
		var out bytes.Buffer
		if err := n.Dump(&out); err != nil || want.Match(out.Bytes()) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestPythonWorksAndAnswers(t *testing.T) {
	eachPython(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			for range 3 {
				go func() { _, _ = sandbox.Call[any, codec.Raw](ctx, a, "spin", nil) }()
			}
			if err := c.called(ctx, n, "spin"); err != nil {
				return err
			}
			for range 5 {
				if err := a.Ping(ctx); err != nil {
					return err
				}
			}
			if got, err := sandbox.Call[int, int](ctx, a, "double", 4); got != 8 || err != nil {
				c.Error(got, err)
			}
			var out bytes.Buffer
			if err := n.Dump(&out); err != nil {
				return err
			}
			for _, want := range []string{`(?m)^  "py" \(.+\): ready, epoch 1, for `, `(?m)^    process \d+: ".*python3.*", state [RSD]`} {
				if !regexp.MustCompile(want).Match(out.Bytes()) {
					c.Errorf("no %s in\n%s", want, out.String())
				}
			}
			return nil
		}, sandbox.Grace(longGrace))
	})
}

func TestPythonDialogs(t *testing.T) {
	eachPython(t, func(c *scope) {
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			for _, verb := range []string{"count", "scount"} {
				if err := c.countWith(ctx, a, verb, 7, 1000); err != nil {
					return err
				}
			}
			s, err := sandbox.OpenStream[int, int](ctx, a, "bidi", 3)
			if err != nil {
				return err
			}
			defer s.Close()
			for want := range 3 {
				if got, err := s.Recv(ctx); got != want || err != nil {
					c.Error(got, err)
				}
			}
			if _, err := s.Recv(ctx); !errors.Is(err, io.EOF) { // its half is closed, and ours is not
				c.Error(err)
			}
			var sum int
			if err := errors.Join(s.Send(ctx, 20), s.Send(ctx, 22), s.CloseSend(), s.Result(ctx, &sum)); err != nil || sum != 42 {
				c.Error(sum, err)
			}
			late, err := sandbox.OpenStream[int, int](ctx, a, "late", 0.05)
			if err != nil {
				return err
			}
			var first, last string
			if err := errors.Join(late.Started(ctx, &first), late.Result(ctx, &last)); err != nil || first != "late" || last != "end" {
				c.Error(first, last, err)
			}
			early, err := sandbox.OpenStream[int, int](ctx, a, "early", 7)
			if err != nil {
				return err
			}
			for err == nil {
				err = early.Send(ctx, 1)
			}
			if rerr := early.Result(ctx, &sum); !errors.Is(err, sandbox.ErrEnded) || rerr != nil || sum != 7 {
				c.Error(err, rerr, sum)
			}
			broken, err := sandbox.OpenStream[int, int](ctx, a, "broken", 2)
			if err != nil {
				return err
			}
			var got []int
			for i, e := range broken.All(ctx) {
				if err = e; e == nil {
					got = append(got, i)
				}
			}
			if quota, ok := errors.AsType[*pyQuota](err); !ok || quota.Used != 2 || !slices.Equal(got, []int{0, 1}) {
				c.Error(got, err)
			}
			stuck, err := sandbox.OpenStream[int, int](ctx, a, "stuck", 3600)
			if err != nil {
				return err
			}
			if err := stuck.Close(); err != nil {
				c.Error(err)
			}
			return a.Ping(ctx)
		}, sandbox.Grace(longGrace))
	})
}

// countWith sends items to a verb that counts, in a dialog that begins with
// {"limit": limit}, while it receives them, each plus 1.
func (c *scope) countWith(ctx context.Context, a *sandbox.Actor, verb string, limit any, items int) error {
	s, err := sandbox.OpenStream[int, int](ctx, a, verb, limit)
	if err != nil {
		return err
	}
	defer s.Close()
	var first struct {
		Limit int `msgpack:"limit"`
	}
	if err := s.Started(ctx, &first); err != nil || first.Limit != 7 {
		c.Errorf("%s began with %+v, %v", verb, first, err)
	}
	sent := make(chan error, 1)
	go func() {
		for i := range items {
			if err := s.Send(ctx, i); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseSend()
	}()
	want := 1
	for i, err := range s.All(ctx) {
		if err != nil {
			return err
		}
		if i != want {
			c.Fatalf("%s: item %d instead of %d", verb, i, want)
		}
		want++
	}
	var last string
	if err := errors.Join(<-sent, s.Result(ctx, &last)); err != nil || last != "done" || want != items+1 {
		c.Errorf("%s: %d items, result %q, %v", verb, want-1, last, err)
	}
	return nil
}

func TestPythonBackPressure(t *testing.T) {
	const size = 10_000
	eachPython(t, func(c *scope) {
		var poured atomic.Int64
		sandbox.HandleStream(&c.mux, "host.pour", func(ctx context.Context, _ codec.Raw, s sandbox.ServerStream[int, []byte]) (int, error) {
			for err := s.Started(ctx, nil); ; {
				if err != nil {
					return 0, err
				}
				if err = s.Send(ctx, make([]byte, size)); err == nil {
					poured.Add(1)
				}
			}
		})
		c.must(func(ctx context.Context, n *sandbox.Nursery) error {
			a := c.start(ctx, n, c.spec("py"))
			s, err := sandbox.OpenStream[int, []byte](ctx, a, "pipe", []any{"host.pour", nil}) // ours, through it, to us
			if err != nil {
				return err
			}
			if err := s.Started(ctx, nil); err != nil {
				return err
			}
			for last := int64(-1); last != poured.Load(); time.Sleep(300 * time.Millisecond) {
				last = poured.Load()
			}
			// Two windows of 256 KiB, and what is on the way between them.
			if n := poured.Load() * size; n > 2<<20 {
				c.Errorf("%d bytes were sent, and nobody has read any", n)
			}
			for i := range 500 { // 5 MB, so that all goes on
				if item, err := s.Recv(ctx); len(item) != size || err != nil {
					c.Fatalf("item %d: %d bytes, %v", i, len(item), err)
				}
			}
			if err := s.Close(); err != nil {
				c.Error(err)
			}
			slow, err := sandbox.OpenStream[[]byte, int](ctx, a, "slow", 0.0001)
			if err != nil {
				return err
			}
			for range 300 { // many windows
				if err := slow.Send(ctx, make([]byte, size)); err != nil {
					return err
				}
			}
			var took []int
			if err := errors.Join(slow.CloseSend(), slow.Result(ctx, &took)); err != nil || !slices.Equal(took, []int{300, 300 * size}) {
				c.Error(took, err)
			}
			stuck, err := sandbox.OpenStream[[]byte, int](ctx, a, "stuck", 3600)
			if err != nil {
				return err
			}
			defer stuck.Close()
			soon, stop := context.WithTimeout(ctx, 300*time.Millisecond)
			defer stop()
			sent := 0
			for err == nil {
				if err = stuck.Send(soon, make([]byte, size)); err == nil {
					sent += size
				}
			}
			if !errors.Is(err, context.DeadlineExceeded) || sent > 1<<20 {
				c.Errorf("%d bytes to one that does not read, then %v", sent, err)
			}
			return nil
		}, sandbox.Grace(longGrace))
	})
}
