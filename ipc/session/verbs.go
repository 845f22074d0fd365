package session

import "sandboxd/ipc/codec"

// The supervisor's verbs (docs/protocol.md, section 10) and what they take and give.
const (
	VerbSpawn  = "sandboxd.spawn"  // SpawnChild → Known
	VerbCancel = "sandboxd.cancel" // CancelChild → nil
	VerbWait   = "sandboxd.wait"   // WaitChild → reason, code, detail
	VerbFind   = "sandboxd.find"   // Named → []Known
	VerbAwait  = "sandboxd.await"  // Named → Known
	VerbCall   = "sandboxd.call"   // CallActor → what the actor gives
	VerbOpen   = "sandboxd.open"   // CallActor → the actor's dialog
)

// SpawnChild asks for a child of the asking actor.
type SpawnChild struct {
	Kind string            `msgpack:"kind"`
	Name string            `msgpack:"name,omitempty"`
	Args []string          `msgpack:"args,omitempty"`
	Env  map[string]string `msgpack:"env,omitempty"`
}

// Known is an actor, as the supervisor names it.
type Known struct {
	ID   string `msgpack:"id"`
	Name string `msgpack:"name"`
}

// Named asks for actors by name.
type Named struct {
	Name string `msgpack:"name"`
}

// CancelChild asks that a child be ended.
type CancelChild struct {
	ID     string `msgpack:"id"`
	Reason string `msgpack:"reason,omitempty"`
}

// WaitChild asks how a child ends.
type WaitChild struct {
	ID string `msgpack:"id"`
}

// CallActor asks for a call of another actor.
type CallActor struct {
	ID      string    `msgpack:"id"`
	Verb    string    `msgpack:"verb"`
	Payload codec.Raw `msgpack:"payload"`
}
