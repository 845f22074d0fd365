package guest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Kind says what a frame is; who talks decides what kinds there are.
type Kind byte

// MaxBody bounds the body of a frame, in bytes.
const MaxBody = 64 << 10

// Conn is one end of a port that carries frames: a kind, the length of the body
// as four bytes little-endian, the body. Many may send, one may receive.
type Conn struct {
	RW io.ReadWriter
	mu sync.Mutex
}

// Send sends body in as many frames as it takes; with none it sends an empty one.
func (c *Conn) Send(k Kind, body []byte) error {
	for {
		n := min(len(body), MaxBody)
		frame := make([]byte, 5, 5+n)
		frame[0] = byte(k)
		binary.LittleEndian.PutUint32(frame[1:], uint32(n))
		c.mu.Lock()
		_, err := c.RW.Write(append(frame, body[:n]...))
		c.mu.Unlock()
		if body = body[n:]; err != nil || len(body) == 0 {
			return err
		}
	}
}

// SendJSON sends v as one frame.
func (c *Conn) SendJSON(k Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > MaxBody {
		return fmt.Errorf("frame %c of %d bytes", k, len(b))
	}
	return c.Send(k, b)
}

// Receive takes the next frame. Its length is checked before room is made for it.
func (c *Conn) Receive() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.RW, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > MaxBody {
		return 0, nil, fmt.Errorf("a frame of %d bytes, %d is the most", n, MaxBody)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c.RW, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return Kind(head[0]), body, nil
}

// SendAll sends what r gives, until its end, as frames of one kind. None is empty.
func (c *Conn) SendAll(k Kind, r io.Reader) error {
	buf := make([]byte, MaxBody)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := c.Send(k, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
