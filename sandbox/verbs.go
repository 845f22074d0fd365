package sandbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"sandboxd/ipc/codec"
	"sandboxd/ipc/session"
)

// maxKids is how many children one life of an actor may have, those that have
// ended and may be waited for included. The oldest of these are forgotten.
const maxKids = 1024

// verbs are what a life may call: the nursery's, its Spec's, and those of the tree that its Spec allows.
func (a *Actor) verbs(l *life) *Mux {
	m := session.Merge(a.n.mux, a.spec.Serve)
	if len(a.spec.Kinds) == 0 && !a.spec.Finds && a.n.owner == nil {
		return m
	}
	t := &reach{a: a, l: l}
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
	kids []*Actor // in the order of their start, also those that have ended; nil: one that is being started
}

func (t *reach) spawn(ctx context.Context, q session.SpawnChild) (session.Known, error) {
	s, ok := t.a.spec.Kinds[q.Kind]
	if !ok {
		kinds := slices.Sorted(maps.Keys(t.a.spec.Kinds))
		return session.Known{}, fmt.Errorf("%w: spawn a %q; its Spec allows %s", ErrDenied, clip(q.Kind), strings.Join(kinds, ", "))
	}
	if s.Name = q.Kind; q.Name != "" {
		s.Name = q.Name
	}
	if !utf8.ValidString(s.Name) || len(s.Name) > maxName || strings.ContainsFunc(s.Name, unicode.IsControl) {
		return session.Known{}, fmt.Errorf("%w: name %q: want at most %d bytes of UTF-8, none of them control characters", ErrDenied, clip(s.Name), maxName)
	}
	s.Argv = slices.Concat(s.Argv, q.Args)
	s.Env = slices.Clip(s.Env)
	for _, k := range slices.Sorted(maps.Keys(q.Env)) {
		s.Env = append(s.Env, k+"="+q.Env[k])
	}
	if !t.reserve() {
		return session.Known{}, fmt.Errorf("%w: it has %d children, which is the most", ErrBusy, maxKids)
	}
	kid, err := t.l.kids.Start(ctx, s)
	if err == nil && ctx.Err() != nil { // nobody learns its id
		err = kid.Cancel(context.Background(), "its parent does not wait for it any more")
		kid, err = nil, errors.Join(context.Cause(ctx), err)
	}
	t.settle(kid)
	if err != nil {
		return session.Known{}, err
	}
	return session.Known(kid.Ref()), nil
}

// maxName bounds the name that a program gives to a child, in bytes.
const maxName = 128

// clip shortens what a program says for a message.
func clip(s string) string { return s[:min(len(s), maxName)] }

// reserve makes room for one more child, forgetting one that has ended where there is none.
func (t *reach) reserve() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kids) >= maxKids {
		i := slices.IndexFunc(t.kids, func(k *Actor) bool {
			if k == nil {
				return false
			}
			select {
			case <-k.Done():
				return true
			default:
				return false
			}
		})
		if i < 0 {
			return false
		}
		t.kids = slices.Delete(t.kids, i, i+1)
	}
	t.kids = append(t.kids, nil)
	return true
}

// settle puts kid where reserve has made room; nil gives the room back.
func (t *reach) settle(kid *Actor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.kids, nil)
	if t.kids[i] = kid; kid == nil {
		t.kids = slices.Delete(t.kids, i, i+1)
	}
}

func (t *reach) kid(id string) (*Actor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kid := range t.kids {
		if kid != nil && kid.Ref().ID == id {
			return kid, nil
		}
	}
	return nil, fmt.Errorf("%w: %q is no child of this actor", ErrDenied, clip(id))
}

// cancel ends a child. Where that took force the scope is told; the child is gone all the same.
func (t *reach) cancel(ctx context.Context, q session.CancelChild) (*struct{}, error) {
	kid, err := t.kid(q.ID)
	if err != nil {
		return nil, err
	}
	err = kid.Cancel(ctx, clip(q.Reason))
	if ctx.Err() == nil {
		err = nil // how it ended, wait tells
	}
	return nil, err
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
func (t *reach) other(id string) (entry, error) {
	e, ok := t.a.n.dir.id(id)
	mine := ok && (e.a.n.owner == t.a || t.a.n.owner == e.a || t.a.spec.Finds)
	switch {
	case !mine:
		return entry{}, fmt.Errorf("%w: call actor %q", ErrDenied, clip(id))
	case !e.a.spec.Peer:
		return entry{}, fmt.Errorf("%w: %v serves nothing", ErrUnknownVerb, e.l.ref)
	}
	return e, nil
}

func (t *reach) target(c *session.Inbound) (entry, session.CallActor, error) {
	var q session.CallActor
	if err := codec.Unmarshal(c.Payload(), &q); err != nil {
		return entry{}, q, fmt.Errorf("%w: %w", ErrBadPayload, err)
	}
	e, err := t.other(q.ID)
	return e, q, err
}

func (t *reach) call(ctx context.Context, c *session.Inbound) ([]byte, error) {
	e, q, err := t.target(c)
	if err != nil {
		return nil, err
	}
	result, err := e.l.s.Call(ctx, q.Verb, q.Payload)
	return result, e.a.explain(e.l, err)
}

// open passes a dialog on, item by item, so that a slow reader slows the writer through us.
func (t *reach) open(ctx context.Context, c *session.Inbound) ([]byte, error) {
	e, q, err := t.target(c)
	if err != nil {
		return nil, err
	}
	to, err := e.l.s.Open(ctx, q.Verb, q.Payload)
	if err != nil {
		return nil, e.a.explain(e.l, err)
	}
	result, err := session.Relay(ctx, c.Stream(), to)
	return result, e.a.explain(e.l, err)
}
