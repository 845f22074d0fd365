// Package observe lets others see what actors do: a log of their events for
// log/slog, and OpenTelemetry traces that go on from a caller into an actor.
//
//	err := sandbox.Run(ctx, func(ctx context.Context, n *sandbox.Nursery) error {
//		go observe.Log(ctx, n.Events(), slog.Default())
//		…
//	}, sandbox.Headers(observe.Headers))
//
// Package sandbox links neither slog nor OpenTelemetry; who wants them imports this.
//
// Non-goals: exporting anything. Only OpenTelemetry's API is linked, and its
// SDK is the program's to choose.
package observe

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"sandboxd/sandbox"
)

// Log writes events to l until they end (nil) or ctx does (its cause). An actor
// that died of a failure, or had to be killed, is a warning; calls are debug
// messages, the rest is information. What was missed because l is slow is said.
func Log(ctx context.Context, events *sandbox.Subscription[sandbox.Event], l *slog.Logger) error {
	for {
		e, err := events.Recv(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, sandbox.ErrLagged):
			l.WarnContext(ctx, "events were missed", slog.Any("error", err))
			continue
		case err != nil:
			return err
		}
		l.LogAttrs(ctx, Level(e), "actor "+string(e.Kind), Attrs(e)...)
	}
}

// Level is how loud Log tells of an event.
func Level(e sandbox.Event) slog.Level {
	switch {
	case e.Kind == sandbox.Died && e.Err != nil, e.Kind == sandbox.Restarted, e.Kind == sandbox.Cancelling && e.Rung == sandbox.RungKill:
		return slog.LevelWarn
	case e.Kind == sandbox.Called:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Attrs are what an event says, as attributes: actor and parent (groups of id
// and name), epoch, and what there is of rung, verb, took, reason, code and error.
// What comes from a program (its error, its verb) is data, never part of the message.
func Attrs(e sandbox.Event) []slog.Attr {
	attrs := []slog.Attr{Ref("actor", e.Actor), Ref("parent", e.Parent), slog.Uint64("epoch", e.Epoch)}
	if e.Rung != "" {
		attrs = append(attrs, slog.String("rung", string(e.Rung)))
	}
	if e.Call != nil {
		attrs = append(attrs, slog.String("verb", e.Call.Verb), slog.Bool("inbound", e.Call.Inbound), slog.Duration("took", e.Call.Took))
	}
	if e.Report != nil {
		attrs = append(attrs, slog.String("reason", string(e.Report.Exit.Reason)), slog.Int("code", e.Report.Exit.Code))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	return attrs
}

// Ref is an actor as a group of id and name.
func Ref(key string, r sandbox.Ref) slog.Attr {
	return slog.Group(key, slog.String("id", r.ID), slog.String("name", r.Name))
}
