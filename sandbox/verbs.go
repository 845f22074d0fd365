package sandbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"sandboxd/ipc/codec"
	"sandboxd/ipc/session"
)

// maxKids is how many children one life of an actor may have had.
const maxKids = 1024

// verbs are what a life may call: the nursery's, its Spec's, and those of the tree that its Spec allows.
func (a *Actor) verbs(l *life) *Mux {
	m := session.Merge(a.n.mux, a.spec.Serve)
	if len(a.spec.Kinds) == 0 && !a.spec.Finds {
		return m
	}
	t := &reach{a: a, l: l, kids: map[string]*Actor{}}
	if len(a.spec.Kinds) > 0 {
		session.Handle(m, session.VerbSpawn, t.spawn)
		session.Handle(m, session.VerbCancel, t.cancel)
		session.Handle(m, session.VerbWait, t.wait)
	}
	if a.spec.Finds {
		session.Handle(m, session.VerbFind, t.find)
		session.Handle(m, session.VerbAwait, t.await)
	}
	m.Add(session.VerbCall, session.Unary, t.call)
	m.Add(session.VerbOpen, session.Dialog, t.open)
	return m
}

// reach is what one life of an actor may do to others.
type reach struct {
	a    *Actor
	l    *life
	mu   sync.Mutex
	kids map[string]*Actor // by id, also those that have ended
}

func (t *reach) spawn(ctx context.Context, q session.SpawnChild) (session.Known, error) {
	s, ok := t.a.spec.Kinds[q.Kind]
	if !ok {
		kinds := slices.Sorted(maps.Keys(t.a.spec.Kinds))
		return session.Known{}, fmt.Errorf("%w: spawn a %q; its Spec allows %s", ErrDenied, q.Kind, strings.Join(kinds, ", "))
	}
	t.mu.Lock()
	full := len(t.kids) >= maxKids
	t.mu.Unlock()
	if full {
		return session.Known{}, fmt.Errorf("%w: it has had %d children", ErrBusy, maxKids)
	}
	if s.Name = q.Kind; q.Name != "" {
		s.Name = q.Name
	}
	s.Argv = slices.Concat(s.Argv, q.Args)
	for k, v := range q.Env {
		s.Env = append(slices.Clip(s.Env), k+"="+v)
	}
	kid, err := t.l.kids.Start(ctx, s)
	if err != nil {
		return session.Known{}, err
	}
	ref := kid.Ref()
	t.mu.Lock()
	t.kids[ref.ID] = kid
	t.mu.Unlock()
	return session.Known(ref), nil
}

func (t *reach) kid(id string) (*Actor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kid := t.kids[id]; kid != nil {
		return kid, nil
	}
	return nil, fmt.Errorf("%w: %q is no child of this actor", ErrDenied, id)
}

func (t *reach) cancel(ctx context.Context, q session.CancelChild) (*struct{}, error) {
	kid, err := t.kid(q.ID)
	if err != nil {
		return nil, err
	}
	return nil, kid.Cancel(ctx, q.Reason)
}

// ended is how a child ended, for its parent.
type ended struct {
	Reason Reason `msgpack:"reason"`
	Code   int    `msgpack:"code"`
	Detail string `msgpack:"detail"`
}

func (t *reach) wait(ctx context.Context, q session.WaitChild) (ended, error) {
	kid, err := t.kid(q.ID)
	if err != nil {
		return ended{}, err
	}
	report, err := kid.Wait(ctx)
	if report == nil {
		return ended{}, err
	}
	return ended{report.Exit.Reason, report.Exit.Code, report.Exit.Detail}, nil
}

func (t *reach) find(_ context.Context, q session.Named) ([]session.Known, error) {
	known := []session.Known{}
	for _, a := range t.a.n.Find(q.Name) {
		known = append(known, session.Known(a.Ref()))
	}
	return known, nil
}

func (t *reach) await(ctx context.Context, q session.Named) (session.Known, error) {
	a, err := t.a.n.Await(ctx, q.Name)
	if err != nil {
		return session.Known{}, err
	}
	return session.Known(a.Ref()), nil
}

// other is an actor that this one may call: a child, its parent, or any where its Spec says Finds.
func (t *reach) other(id string) (*life, error) {
	e, ok := t.a.n.dir.id(id)
	mine := ok && (e.a.n.owner == t.a || t.a.n.owner == e.a || t.a.spec.Finds)
	switch {
	case !mine:
		return nil, fmt.Errorf("%w: call actor %q", ErrDenied, id)
	case e.l.s == nil:
		return nil, fmt.Errorf("%w: %v serves nothing", ErrUnknownVerb, e.l.ref)
	}
	return e.l, nil
}

func (t *reach) target(c *session.Inbound) (*life, session.CallActor, error) {
	var q session.CallActor
	if err := codec.Unmarshal(c.Payload(), &q); err != nil {
		return nil, q, fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	l, err := t.other(q.ID)
	return l, q, err
}

func (t *reach) call(ctx context.Context, c *session.Inbound) ([]byte, error) {
	l, q, err := t.target(c)
	if err != nil {
		return nil, err
	}
	return l.s.Call(ctx, q.Verb, q.Payload)
}

// open passes a dialog on, item by item, so that a slow reader slows the writer through us.
func (t *reach) open(ctx context.Context, c *session.Inbound) ([]byte, error) {
	l, q, err := t.target(c)
	if err != nil {
		return nil, err
	}
	to, err := l.s.Open(ctx, q.Verb, q.Payload)
	if err != nil {
		return nil, err
	}
	return session.Relay(ctx, c.Stream(), to)
}
