package observe

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Headers are the trace that ctx is part of, as W3C Trace Context writes it:
// for sandbox.Headers. Nil where there is none.
func Headers(ctx context.Context) map[string]string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	h := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, h)
	if len(h["tracestate"]) > maxHeader {
		delete(h, "tracestate") // it is optional, and a header that is too long ends a call
	}
	return h
}

// maxHeader is how many bytes a header's value may have; see docs/protocol.md.
const maxHeader = 512

// Context is ctx as a part of the trace that came with a call in its headers,
// if one did: the next span that is started in it is a child of the caller's.
// Headers of a program are hostile: what is no trace is ignored.
func Context(ctx context.Context, headers map[string]string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(headers))
}
