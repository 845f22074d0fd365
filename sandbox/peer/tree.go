package peer

import (
	"context"

	"sandboxd/ipc/codec"
	"sandboxd/ipc/session"
)

// Other is another actor: a child of this one, or one that it found. What is
// called of it goes through the supervisor, which sees to it that it is allowed.
type Other struct {
	Ref
	p *Peer
}

// Exit is how a child ended; reasons are those of sandbox.Report.
type Exit struct {
	Reason string `msgpack:"reason"`
	Code   int    `msgpack:"code"`
	Detail string `msgpack:"detail"`
}

// Other is an actor that this one knows by its id, such as one whose id was in a
// payload. Whether there is one, and this one may call it, shows when it does.
func (p *Peer) Other(r Ref) *Other { return &Other{r, p} }

// Spawn starts a child of this actor, of a kind that this actor's Spec names,
// and waits until it serves. name is for people and for Find; "" is the kind.
// The child's limits lie within this actor's, and it ends with this actor.
func (p *Peer) Spawn(ctx context.Context, kind, name string, args ...string) (*Other, error) {
	return p.other(session.Call[session.SpawnChild, session.Known](ctx, p.s, session.VerbSpawn, session.SpawnChild{Kind: kind, Name: name, Args: args}))
}

// Find gives the actors that have that name now.
func (p *Peer) Find(ctx context.Context, name string) ([]*Other, error) {
	known, err := session.Call[session.Named, []session.Known](ctx, p.s, session.VerbFind, session.Named{Name: name})
	var all []*Other
	for _, k := range known {
		all = append(all, p.Other(Ref(k)))
	}
	return all, err
}

// Await waits until an actor has that name.
func (p *Peer) Await(ctx context.Context, name string) (*Other, error) {
	return p.other(session.Call[session.Named, session.Known](ctx, p.s, session.VerbAwait, session.Named{Name: name}))
}

func (p *Peer) other(k session.Known, err error) (*Other, error) {
	if err != nil {
		return nil, err
	}
	return p.Other(Ref(k)), nil
}

// Cancel ends a child and waits until nothing of it is left.
func (o *Other) Cancel(ctx context.Context, reason string) error {
	_, err := session.Call[session.CancelChild, *struct{}](ctx, o.p.s, session.VerbCancel, session.CancelChild{ID: o.ID, Reason: reason})
	return err
}

// Wait waits until a child has ended.
func (o *Other) Wait(ctx context.Context) (Exit, error) {
	return session.Call[session.WaitChild, Exit](ctx, o.p.s, session.VerbWait, session.WaitChild{ID: o.ID})
}

// CallOther calls a verb of another actor.
func CallOther[Req, Resp any](ctx context.Context, o *Other, verb string, req Req) (Resp, error) {
	payload, err := codec.Marshal(req)
	if err != nil {
		var none Resp
		return none, err
	}
	return session.Call[session.CallActor, Resp](ctx, o.p.s, session.VerbCall, session.CallActor{ID: o.ID, Verb: verb, Payload: payload})
}

// OpenOther opens a dialog with another actor.
func OpenOther[Out, In, Req any](ctx context.Context, o *Other, verb string, req Req) (*ClientStream[Out, In], error) {
	payload, err := codec.Marshal(req)
	if err != nil {
		return nil, err
	}
	return session.OpenStream[Out, In](ctx, o.p.s, session.VerbOpen, session.CallActor{ID: o.ID, Verb: verb, Payload: payload})
}
