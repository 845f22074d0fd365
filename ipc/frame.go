package ipc

import (
	"context"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Frame is one received message, undecoded. The receiver owns all of it.
type Frame struct {
	Body   []byte
	File   *os.File // nil where no descriptor came; close-on-exec
	Sender Cred     // of the process that sent the first byte; zero without PassCred
}

// Close closes the descriptor, where one came.
func (f *Frame) Close() error {
	if f.File == nil {
		return nil
	}
	return f.File.Close()
}

// Recv waits for one frame that may carry up to descriptors (0 or 1) file
// descriptors; any more are closed and the frame is refused. Memory grows with
// the bytes that arrive, never past the cap.
//
// A frame once begun is finished or the connection closed: after any error,
// the end of ctx included, the Conn is closed.
func (c *Conn) Recv(ctx context.Context, descriptors int) (Frame, error) {
	stop := until(ctx, func() { c.Close() })
	r := receiver{c: c, allow: descriptors}
	body, err := r.frame()
	if ended := stop(); ended != nil {
		err = ended
	}
	if err != nil {
		r.drop()
		c.Close()
		return Frame{}, fmt.Errorf("ipc: receive: %w", err)
	}
	f := Frame{Body: body, Sender: r.sender}
	if len(r.fds) > 0 {
		f.File = os.NewFile(uintptr(r.fds[0]), "ipc")
	}
	return f, nil
}

// receiver is the state of one Recv.
type receiver struct {
	c      *Conn
	allow  int
	got    int // bytes of the frame so far, length included
	fds    []int
	sender Cred
	head   [4]byte
	// oob holds one SCM_CREDENTIALS and an SCM_RIGHTS of 4 descriptors, or of
	// 12 alone. That many the kernel may install for us, good or bad; those
	// that do not fit it closes, and says MSG_CTRUNC.
	oob [64]byte
}

func (r *receiver) drop() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

func (r *receiver) frame() ([]byte, error) {
	if err := r.fill(r.head[:]); err != nil {
		return nil, err
	}
	size, limit := int64(binary.LittleEndian.Uint32(r.head[:])), r.c.cap.Load()
	if size > limit {
		return nil, fmt.Errorf("%d bytes declared, cap is %d: %w", size, limit, ErrFrameTooLarge)
	}
	if size == 0 {
		return nil, fmt.Errorf("empty frame: %w", ErrMalformed)
	}
	n := int(size)
	body := make([]byte, min(n, HandshakeCap))
	for have := 0; ; {
		if err := r.fill(body[have:]); err != nil {
			return nil, err
		}
		if have = len(body); have == n {
			return body, nil
		}
		grown := make([]byte, min(n, 2*have))
		copy(grown, body)
		body = grown
	}
}

// fill reads exactly len(p) bytes, never more: a descriptor of the next frame
// must not be taken for one of this.
func (r *receiver) fill(p []byte) error {
	for len(p) > 0 {
		n, err := r.read(p)
		if err != nil {
			return err
		}
		if n == 0 && r.got == 0 {
			return fmt.Errorf("%w: %w", ErrPeerGone, io.EOF)
		}
		if n == 0 {
			return fmt.Errorf("%w: %w", ErrPeerGone, io.ErrUnexpectedEOF)
		}
		p = p[n:]
		r.got += n
	}
	return nil
}

// read is one recvmsg(2).
func (r *receiver) read(p []byte) (int, error) {
	var (
		n, oobn, flags int
		err            error
	)
	poll := r.c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), p, r.oob[:], unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if poll != nil || err != nil {
		return 0, sysErr(poll, err)
	}
	if oobn > 0 {
		if err := r.control(r.oob[:oobn]); err != nil {
			return 0, err
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return 0, fmt.Errorf("control data cut short: %w", ErrDescriptors)
	}
	if len(r.fds) > r.allow {
		return 0, fmt.Errorf("%d came, %d allowed: %w", len(r.fds), r.allow, ErrDescriptors)
	}
	return n, nil
}

// control takes descriptors and credentials out of a control buffer (unix(7)).
func (r *receiver) control(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control data: %w", err)
	}
	for i := range msgs {
		m := &msgs[i]
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_RIGHTS:
			fds, err := unix.ParseUnixRights(m)
			if err != nil {
				return fmt.Errorf("control data: %w", err)
			}
			r.fds = append(r.fds, fds...)
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_CREDENTIALS:
			u, err := unix.ParseUnixCredentials(m)
			if err != nil {
				return fmt.Errorf("control data: %w", err)
			}
			if r.got == 0 {
				r.sender = credOf(u)
			}
		}
	}
	return nil
}

// Send writes m as one frame, with the descriptors of files, which stay the
// caller's. After any error the Conn is closed, as with Recv: a frame cut
// short cannot be mended. The exceptions are a message that cannot be encoded,
// of which nothing has left, and ErrPeerGone: what the peer sent before it went
// can still be received.
func (c *Conn) Send(ctx context.Context, m encoding.BinaryAppender, files ...*os.File) error {
	b, err := m.AppendBinary(make([]byte, 4, 128))
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	stop := until(ctx, func() { c.Close() })
	err = c.write(b, files)
	if ended := stop(); ended != nil {
		err = ended
	}
	if err != nil {
		if !errors.Is(err, ErrPeerGone) {
			c.Close()
		}
		return fmt.Errorf("ipc: send: %w", err)
	}
	return nil
}

func (c *Conn) write(b []byte, files []*os.File) error {
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files { // not Fd, which may make the file blocking
			raw, err := f.SyscallConn()
			if err != nil {
				return err
			}
			if err := raw.Control(func(fd uintptr) { fds[i] = int(fd) }); err != nil {
				return err
			}
		}
		oob = unix.UnixRights(fds...)
		defer runtime.KeepAlive(files)
	}
	for len(b) > 0 {
		var (
			n   int
			err error
		)
		poll := c.raw.Write(func(fd uintptr) bool {
			for {
				n, err = unix.SendmsgN(int(fd), b, oob, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
				if err != unix.EINTR {
					return err != unix.EAGAIN
				}
			}
		})
		if poll != nil || err != nil {
			return sysErr(poll, err)
		}
		b = b[n:]
		oob = nil // descriptors travel with the first byte
	}
	return nil
}
