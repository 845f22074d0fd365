// Package ipc is the conversation between a supervisor and the init of a
// sandbox: frames on a Unix stream socket, kernel credentials, the handshake.
//
// The supervisor's side reads in the order of the ladder in handshake.go:
//
//	conn, _, err := ipc.AcceptHello(ctx, listener, expect)
//	// check the peer's cgroup, then
//	err = ipc.SendWelcome(ctx, conn, ipc.Welcome{Epoch: expect.Epoch, Plan: plan})
//	ready, terminal, err := ipc.AwaitReady(ctx, conn, nil)
//
// A frame is a 4-byte little-endian length and one msgpack value. The peer is
// hostile: a length is checked before a byte of body is read, memory follows
// the bytes that arrive, descriptors are taken only where one is allowed.
// Closing a Conn or Listener ends whatever blocks on it.
//
// Non-goals: calls and streams, retrying, TCP, deciding what a valid peer may
// do. The handshake's bytes for implementers in other languages are in
// testdata/vectors.
package ipc
