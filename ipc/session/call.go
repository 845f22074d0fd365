package session

import (
	"context"
	"time"
)

// call is one call, at either of its ends. What is not set at birth is guarded by Session.mu.
type call struct {
	s       *Session
	cid     uint64
	mine    bool // opened on this side
	verb    string
	mode    Mode
	since   time.Time
	payload []byte            // of START, on the server's side
	headers map[string]string // of START, on the server's side

	ended  bool
	result []byte
	err    error
	final  chan struct{} // closed when ended

	// Streams.
	window   int64    // bytes that we hold ready
	credit   int64    // bytes that we may still send
	room     int64    // bytes that the other side may still send
	eaten    int64    // bytes taken by our reader and not given back yet
	queue    [][]byte // items for our reader
	first    []byte   // of STARTED, on the opener's side
	accepted bool     // STARTACK was received, or sent
	begun    bool     // STARTED was received, or sent
	theyStop bool     // STOP was received
	weStop   bool     // STOP was sent
	signal   chan struct{}

	// Opener's side.
	tells bool // CANCEL was sent
	acked bool // CANCELACK was received

	// Server's side.
	f      func(context.Context, *Inbound) ([]byte, error)
	left   time.Duration // of START; 0: no deadline
	ctx    context.Context
	cancel context.CancelCauseFunc
	held   int64  // bytes of the budget
	lent   []byte // what the request is part of; its function's only
	ours   bool   // the result is to be recycled when it was sent; its function's only
}

// wakeLocked lets everybody who waits on the call look again. Precondition: s.mu is held.
func (c *call) wakeLocked() {
	if c.signal != nil {
		close(c.signal)
		c.signal = nil
	}
}

// waitLocked gives a channel that wakeLocked closes. Precondition: s.mu is held.
func (c *call) waitLocked() <-chan struct{} {
	if c.signal == nil {
		c.signal = make(chan struct{})
	}
	return c.signal
}

// finishLocked ends the call here; Session.unlock tells of it. Precondition: s.mu is held.
func (c *call) finishLocked(result []byte, err error) {
	if c.ended {
		return
	}
	c.ended, c.result, c.err = true, result, err
	delete(c.s.calls, c.cid)
	if !c.mine {
		c.queue = nil
		c.cancel(err)
	}
	close(c.final)
	c.wakeLocked()
	if c.s.o.Observe != nil {
		c.s.over = append(c.s.over, c.info(err, time.Since(c.since)))
	}
}

func (c *call) info(err error, took time.Duration) CallInfo {
	return CallInfo{Verb: c.verb, Mode: c.mode, Inbound: !c.mine, Since: c.since, Took: took, Err: err}
}

// receiveLocked handles a message for a live call; where write says so, the
// caller is to call writer.write. Precondition: s.mu is held.
func (c *call) receiveLocked(m *message) (write bool, err error) {
	stream := c.mode == Dialog
	open := stream && (c.accepted || !c.mine) // the opener may send what needs no credit before STARTACK
	switch {
	case m.kind == giveBack && c.mine && (c.accepted || !stream):
		c.s.ended = true
		c.finishLocked(m.payload, nil)
	case m.kind == fail && c.mine:
		c.s.believe(m.err)
		c.s.ended = true
		c.finishLocked(nil, m.err)
	case m.kind == cancelAck && c.tells && !c.acked:
		c.acked = true
	case m.kind == cancel && !c.mine:
		c.cancel(&Cancelled{m.by, m.reason})
		c.wakeLocked()
		return c.s.w.put(&message{kind: cancelAck, cid: c.cid})
	case m.kind == startAck && c.mine && stream && !c.accepted:
		c.accepted = true
		c.credit += int64(m.n)
		c.wakeLocked()
	case m.kind == started && c.mine && c.accepted && !c.begun:
		c.begun, c.first = true, m.payload
		c.wakeLocked()
	case m.kind == yield && c.accepted && !c.theyStop && c.room > 0 && (!c.mine || c.begun):
		c.room -= cost(m.payload)
		c.queue = append(c.queue, m.payload)
		c.wakeLocked()
	case m.kind == credit && open && c.credit+int64(m.n) <= maxNumber:
		c.credit += int64(m.n)
		c.wakeLocked()
	case m.kind == stop && open && !c.theyStop:
		c.theyStop = true
		c.wakeLocked()
	default:
		return false, violation("%v for call %d of %s: not now, or not from this side", m.kind, c.cid, c.verb)
	}
	return false, nil
}

// cost is what an item takes of a window.
func cost(payload []byte) int64 { return int64(max(len(payload), minItem)) }
