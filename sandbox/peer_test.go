package sandbox

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"sandboxd/ipc"
	"sandboxd/spawn"
)

// A backend whose programs cannot connect is refused, and what it started is ended.
func TestPeerGate(t *testing.T) {
	started := &fakeProcess{killed: make(chan struct{})}
	h := fakeHost(func(_ context.Context, r *spawn.Request) (spawn.Process, error) {
		if !r.Peer {
			t.Error("Request.Peer is not set")
		}
		return started, started.Kill()
	})
	_, err := h.Start(context.Background(), Spec{Argv: []string{"true"}, Peer: true})
	if g, ok := errors.AsType[*spawn.Gate](err); !ok || g.Feature != spawn.PeerSocket || g.Observed == "" || g.Remedy == "" {
		t.Errorf("%v: want the gate of %s", err, spawn.PeerSocket)
	}
	if len(h.live) > 0 {
		t.Error("it lives on")
	}
}

// peered is a fake whose program has connected.
type peered struct {
	*fakeProcess
	accepted error
}

func (p peered) Accept(context.Context) (*ipc.Conn, ipc.Cred, error) {
	return nil, ipc.Cred{PID: 7}, p.accepted
}

func (peered) Shut() error { return nil }

func TestAccept(t *testing.T) {
	for _, asked := range []bool{true, false} {
		h := fakeHost(func(context.Context, *spawn.Request) (spawn.Process, error) {
			p := &fakeProcess{killed: make(chan struct{})}
			if asked {
				return peered{p, os.ErrProcessDone}, nil
			}
			return p, nil
		})
		a, err := h.Start(context.Background(), Spec{Argv: []string{"true"}, Peer: asked})
		if err != nil {
			t.Fatal(err)
		}
		_, cred, err := a.accept(context.Background())
		if asked && (!errors.Is(err, os.ErrProcessDone) || cred.PID != 7) || !asked && (err == nil || !strings.Contains(err.Error(), "Spec.Peer")) {
			t.Errorf("asked for: %v: %v", asked, err)
		}
		a.Cancel("the test is over", 0)
		report(t, a)
	}
}
