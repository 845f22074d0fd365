package microvm

import (
	"fmt"
	"sync"
	"sync/atomic"

	"sandboxd/ipc"
	"sandboxd/vm/guest"
)

// mostLines is how many connections of an actor are carried at once; more wait.
const mostLines = 16

// relay carries connections over a port. The first byte of each frame is the
// number of a connection, which the guest's side gives: it is free again when
// both directions have ended there. Whoever does not read one keeps the others
// waiting; they are all the same actor's.
type relay struct {
	port *guest.Conn

	mu    sync.Mutex
	lines [mostLines]*line // until the other side has sent all of it
}

// line is a connection that is carried.
type line struct {
	*ipc.Conn
	open atomic.Int32 // directions
	hung bool         // nobody reads it; of the reader
	done func()       // called when both have ended
}

func (l *line) end() {
	if l.open.Add(-1) == 0 {
		l.Close()
		l.done()
	}
}

// add makes c the connection of that number; false: that is another.
func (r *relay) add(number byte, c *ipc.Conn, done func()) (*line, bool) {
	l := &line{Conn: c, done: done}
	l.open.Store(2)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines[number] != nil {
		return nil, false
	}
	r.lines[number] = l
	return l, true
}

// send sends what l's peer writes, to its end.
func (r *relay) send(number byte, l *line) {
	buf := make([]byte, guest.MaxBody)
	buf[0] = number
	for {
		n, err := l.Read(buf[1:])
		if n > 0 && r.port.Send(frameData, buf[:1+n]) != nil {
			break
		}
		if err != nil {
			break
		}
	}
	_ = r.port.Send(frameData, buf[:1])
	l.end()
}

// receive takes what the other side sends, and hands a new connection's number
// to connect. When it returns, with the port or because the other side breaks
// the rules, every connection has ended.
func (r *relay) receive(connect func(number byte) error) error {
	defer r.hangup()
	for {
		k, body, err := r.port.Receive()
		if err != nil {
			return err
		}
		if len(body) == 0 || body[0] >= mostLines {
			return fmt.Errorf("a frame %q of no connection", k)
		}
		number, body := body[0], body[1:]
		switch k {
		case frameConnect:
			if err := connect(number); err != nil {
				return err
			}
		case frameData:
			r.take(number, body)
		default:
			return fmt.Errorf("a frame %q on the port of connections", k)
		}
	}
}

func (r *relay) take(number byte, body []byte) {
	r.mu.Lock()
	l := r.lines[number]
	if len(body) == 0 {
		r.lines[number] = nil
	}
	r.mu.Unlock()
	switch {
	case l == nil: // it could not be connected
	case len(body) == 0:
		_ = l.Hangup() // what it has sent is still read
		l.end()
	case !l.hung:
		_, err := l.Write(body)
		l.hung = err != nil
	}
}

func (r *relay) hangup() {
	r.mu.Lock()
	lines := r.lines
	r.lines = [mostLines]*line{}
	r.mu.Unlock()
	for _, l := range lines {
		if l != nil {
			_ = l.Hangup()
			l.end()
		}
	}
}
