package vmrun

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Host and guest talk over one virtio-serial port, in frames: a kind, the
// length of the body as four bytes little-endian, the body. The host believes
// nothing of it but what it shows its user.
type kind byte

const (
	// From the guest.
	ready  kind = 'r' // JSON phases: everything is set up, the program starts next
	failed kind = '!' // text: the guest could not be set up, or the program not be started
	stdout kind = 'o'
	stderr kind = 'e'
	file   kind = 'f' // JSON returned: a file begins, and ends where the next frame is no data
	data   kind = 'd'
	exited kind = 'x' // JSON status; nothing follows

	// To the guest.
	stdin kind = 'i' // an empty one ends it
)

// maxBody bounds the body of a frame, in bytes.
const maxBody = 64 << 10

// port is the name of the virtio-serial port.
const port = "sandboxd.vmrun"

// phases are what the guest measured, in its own time since the kernel began.
type phases struct {
	Kernel  time.Duration // when init began
	Modules time.Duration // when the modules were loaded
	Ready   time.Duration
	Release string // of the kernel
}

type status struct {
	Code   int // of the program; of a signal, 128 and its number, as a shell has it
	Signal int // that ended it, or 0
}

// returned announces a file that comes back.
type returned struct {
	Path string
	Mode uint32
}

// conn is one end of the port. Many may send, one may receive.
type conn struct {
	rw io.ReadWriter
	mu sync.Mutex
}

func (c *conn) send(k kind, body []byte) error {
	for {
		n := min(len(body), maxBody)
		frame := make([]byte, 5, 5+n)
		frame[0] = byte(k)
		binary.LittleEndian.PutUint32(frame[1:], uint32(n))
		c.mu.Lock()
		_, err := c.rw.Write(append(frame, body[:n]...))
		c.mu.Unlock()
		if body = body[n:]; err != nil || len(body) == 0 {
			return err
		}
	}
}

func (c *conn) sendJSON(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxBody {
		return fmt.Errorf("frame %c of %d bytes", k, len(b))
	}
	return c.send(k, b)
}

func (c *conn) receive() (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.rw, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > maxBody {
		return 0, nil, fmt.Errorf("a frame of %d bytes, %d is the most", n, maxBody)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.rw, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return kind(head[0]), body, nil
}

// stream sends what is written to it as frames of one kind.
type stream struct {
	c *conn
	k kind
}

func (s stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // an empty frame would be an end
	}
	if err := s.c.send(s.k, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
