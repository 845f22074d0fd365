package sandbox

import (
	"context"
	"fmt"

	"sandboxd/ipc"
	"sandboxd/spawn"
)

// noPeers refuses Spec.Peer.
func noPeers(backend string) error {
	return &spawn.Gate{Feature: spawn.PeerSocket, Observed: fmt.Sprintf("programs of the %s backend have no socket to connect to", backend), Remedy: "use --backend native"}
}

// accept waits for the next connection of the program's, as spawn.Peers does.
func (a *Process) accept(ctx context.Context) (*ipc.Conn, ipc.Cred, error) {
	p, ok := a.proc.(spawn.Peers)
	if !ok {
		return nil, ipc.Cred{}, fmt.Errorf("actor %s has no socket for its program: Spec.Peer is not set", a.id)
	}
	return p.Accept(ctx)
}
