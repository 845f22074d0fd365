package observe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"sandboxd/sandbox"
	"sandboxd/sandbox/observe"
	"sandboxd/sandbox/peer"
	"sandboxd/sandbox/sandboxtest"
)

func TestLog(t *testing.T) {
	var mux peer.Mux
	peer.Handle(&mux, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	m := sandboxtest.Memory{
		"worker": sandboxtest.Serve(&mux),
		"bad":    func(context.Context, *sandboxtest.Env) int { return 3 },
	}
	var out bytes.Buffer
	logged := make(chan error, 1)
	err := sandbox.Run(t.Context(), func(ctx context.Context, n *sandbox.Nursery) error {
		events := n.Events()
		go func() {
			logged <- observe.Log(t.Context(), events, slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
		}()
		a, err := n.Start(ctx, sandbox.Spec{Argv: []string{"worker"}, Peer: true})
		if err != nil {
			return err
		}
		if _, err := sandbox.Call[int, int](ctx, a, "double", 1); err != nil {
			return err
		}
		if _, err := n.Go(ctx, sandbox.Spec{Argv: []string{"bad"}}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}, sandbox.On(m))
	if err == nil {
		t.Error("nobody has failed")
	}
	if err := <-logged; err != nil {
		t.Error(err)
	}
	type line struct {
		Level, Msg, Verb, Reason, Rung, Error string
		Code                                  int
		Epoch                                 uint64
		Actor, Parent                         struct{ ID, Name string }
	}
	seen := map[string]line{}
	for l := range strings.Lines(out.String()) {
		var v line
		if err := json.Unmarshal([]byte(l), &v); err != nil || v.Actor.ID == "" || v.Parent.ID != "0" || v.Epoch != 1 {
			t.Errorf("%s: %v", l, err)
		}
		seen[v.Actor.Name+" "+strings.TrimPrefix(v.Msg, "actor ")] = v
	}
	if l := seen["bad died"]; l.Level != "WARN" || l.Code != 3 || l.Reason != "exited" || l.Error == "" {
		t.Errorf("%+v", l)
	}
	if l := seen["worker called"]; l.Level != "DEBUG" || l.Verb != "double" {
		t.Errorf("%+v", l)
	}
	if l := seen["worker cancelling"]; l.Level != "INFO" || l.Rung != "message" {
		t.Errorf("%+v", l)
	}
	if l := seen["worker died"]; l.Level != "INFO" || l.Error != "" {
		t.Errorf("%+v", l)
	}
}

func TestLogTellsWhatItHasMissed(t *testing.T) {
	b := sandbox.NewBroadcast[sandbox.Event](1)
	s := b.Subscribe()
	b.Send(sandbox.Event{Kind: sandbox.Spawned})
	b.Send(sandbox.Event{Kind: sandbox.Ready})
	b.Close()
	var out bytes.Buffer
	if err := observe.Log(t.Context(), s, slog.New(slog.NewTextHandler(&out, nil))); err != nil {
		t.Error(err)
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 3 || !strings.Contains(lines[0], "1 values missed") || !strings.Contains(lines[1], "ready") {
		t.Error(out.String())
	}
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("why")
	stop(why)
	if err := observe.Log(ctx, sandbox.NewBroadcast[sandbox.Event](1).Subscribe(), slog.Default()); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestTraceGoesOnInTheActor(t *testing.T) {
	var mux peer.Mux
	peer.Handle(&mux, "trace", func(ctx context.Context, _ int) (string, error) {
		c := trace.SpanContextFromContext(observe.Context(ctx, peer.Headers(ctx)))
		return c.TraceID().String() + " " + c.SpanID().String() + " " + c.TraceState().String(), nil
	})
	m := sandboxtest.Memory{"worker": sandboxtest.Serve(&mux)}
	state, err := trace.ParseTraceState("a=b")
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceState: state, TraceFlags: trace.FlagsSampled})
	err = sandbox.Run(t.Context(), func(ctx context.Context, n *sandbox.Nursery) error {
		a, err := n.Start(ctx, sandbox.Spec{Argv: []string{"worker"}, Peer: true})
		if err != nil {
			return err
		}
		for _, c := range []trace.SpanContext{span, {}} {
			got, err := sandbox.Call[int, string](trace.ContextWithSpanContext(ctx, c), a, "trace", 0)
			if want := c.TraceID().String() + " " + c.SpanID().String() + " " + c.TraceState().String(); got != want || err != nil {
				t.Errorf("%q, want %q, %v", got, want, err)
			}
		}
		return nil
	}, sandbox.On(m), sandbox.Headers(observe.Headers))
	if err != nil {
		t.Error(err)
	}
}

func TestHostileHeadersAreNoTrace(t *testing.T) {
	for _, h := range []map[string]string{nil, {"traceparent": "x"}, {"traceparent": "00-" + strings.Repeat("0", 32) + "-0000000000000000-01"}} {
		if c := trace.SpanContextFromContext(observe.Context(t.Context(), h)); c.IsValid() {
			t.Errorf("%v: %v", h, c)
		}
	}
	state := trace.TraceState{}
	for i := range 20 {
		state, _ = state.Insert("k"+string(rune('a'+i)), strings.Repeat("v", 50))
	}
	long := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceState: state})
	if h := observe.Headers(trace.ContextWithSpanContext(t.Context(), long)); h["tracestate"] != "" || h["traceparent"] == "" {
		t.Errorf("%v", h)
	}
}
