package ipc

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// The handshake, in the order of the functions below:
//
//	supervisor                                    init (PID 1 of the sandbox)
//	listens before it launches
//	AcceptHello  ◀──────────────── connect ──────
//	   kernel: is this the pid launched?          (anyone else: closed, wait on)
//	             ◀──────────────── Hello ────────
//	   proto, actor, epoch, nonce
//	SendWelcome  ───────────────── Welcome ─────▶ rest of the plan
//	AwaitReady                                    last steps, fork
//	             ◀──────────────── Confined ───── program's process, where a listener is handed over
//	             ───────────────── Proceed ─────▶ exec
//	             ◀──────────────── Ready ──────── or Failed{step, index, errno}
//	LastExit     ◀──────────────── Exit ───────── once the program has ended
//
// The messages and their bytes are in message.go. Every call ends with its
// ctx, and at once when the Conn or Listener is closed. A peer that dies ends
// a wait with ErrPeerGone, but only after what it sent has been read: Ready
// then a death is Ready, so whoever sees the death first lets the wait finish.

// MaxStrangers is how many connections of other processes AcceptHello closes
// before it gives up.
const MaxStrangers = 8

// Expect is who must come. All of it is compared.
type Expect struct {
	Actor string   // as handed to the init, at most 255 bytes
	Epoch uint64   // of the actor's incarnation
	Nonce [16]byte // random, handed to the init alone, used once
	PID   int      // of the init in our pid namespace; the caller holds its pidfd
}

// AcceptHello waits until the process want.PID connects and says the Hello
// awaited. Connections of others are closed unread; more than MaxStrangers are
// ErrTooManyStrangers. From the right process anything but the right Hello
// ends the wait: a *HandshakeError names the field. The Conn is the caller's;
// the Listener stays open, and is no longer needed.
func AcceptHello(ctx context.Context, l *Listener, want Expect) (*Conn, Hello, error) {
	for strangers := 0; ; {
		c, err := l.Accept(ctx)
		if err != nil {
			return nil, Hello{}, err
		}
		cred, err := PeerCred(c)
		if err == nil && cred.PID == want.PID {
			hello, err := ReadHello(ctx, c, want)
			if err != nil {
				c.Close()
				return nil, Hello{}, err
			}
			return c, hello, nil
		}
		c.Close()
		if err != nil && !errors.Is(err, ErrStranger) {
			return nil, Hello{}, err
		}
		if strangers++; strangers > MaxStrangers {
			return nil, Hello{}, fmt.Errorf("ipc: handshake: %d connections came, none from pid %d: %w", strangers, want.PID, ErrTooManyStrangers)
		}
	}
}

// ReadHello is the second half of AcceptHello, for a caller who has found out itself who connected. want.PID is not looked at.
func ReadHello(ctx context.Context, c *Conn, want Expect) (Hello, error) {
	f, err := c.Recv(ctx, 0)
	if err != nil {
		return Hello{}, err
	}
	var h Hello
	if err := h.UnmarshalBinary(f.Body); err != nil {
		return Hello{}, err
	}
	switch {
	case h.Proto != Proto:
		return Hello{}, &HandshakeError{"proto", strconv.Itoa(int(h.Proto)), strconv.Itoa(Proto)}
	case h.Actor != want.Actor:
		return Hello{}, &HandshakeError{"actor", strconv.Quote(h.Actor), strconv.Quote(want.Actor)}
	case h.Epoch != want.Epoch:
		return Hello{}, &HandshakeError{"epoch", strconv.FormatUint(h.Epoch, 10), strconv.FormatUint(want.Epoch, 10)}
	case subtle.ConstantTimeCompare(h.Nonce[:], want.Nonce[:]) != 1:
		return Hello{}, &HandshakeError{Field: "nonce"}
	}
	return h, nil
}

// SendWelcome sends the rest of the plan and raises the cap to DefaultCap.
func SendWelcome(ctx context.Context, c *Conn, w Welcome) error {
	if err := c.Send(ctx, &w); err != nil {
		return err
	}
	c.cap.Store(DefaultCap)
	return nil
}

// AwaitReady waits for Ready and the terminal that may come with it, nil
// otherwise. Failed becomes a *StepError. Confined, at most once, calls confined
// with who sent it, as the kernel says (PassCred before SendWelcome), and its
// descriptor or nil, which confined then owns; where it returns nil, Proceed is
// sent. A nil confined means that none is awaited.
// After an error the Conn is closed.
func AwaitReady(ctx context.Context, c *Conn, confined func(Cred, *os.File) error) (Ready, *os.File, error) {
	for {
		f, err := c.Recv(ctx, 1)
		if err != nil {
			return Ready{}, nil, err
		}
		t, err := TypeOf(f.Body)
		switch {
		case err != nil:
		case t == TypeReady:
			var m Ready
			if err = m.UnmarshalBinary(f.Body); err == nil {
				return m, f.File, nil
			}
		case t == TypeFailed:
			err = failed(f)
		case t == TypeConfined && confined != nil:
			var m Confined
			if err = m.UnmarshalBinary(f.Body); err != nil {
				break
			}
			file := f.File
			f.File = nil // confined owns it
			if err = confined(f.Sender, file); err != nil {
				break
			}
			// An init whose program was killed meanwhile has said Ready and how it ended, and is gone: that comes first.
			if err = c.Send(ctx, &Proceed{}); err != nil && !errors.Is(err, ErrPeerGone) {
				break
			}
			confined = nil
			continue
		default:
			err = fmt.Errorf("ipc: %v before Ready: %w", t, ErrUnexpected)
		}
		f.Close()
		c.Close()
		return Ready{}, nil, err
	}
}

// failed turns a Failed message into the error it reports.
func failed(f Frame) error {
	if f.File != nil {
		return fmt.Errorf("ipc: Failed with a descriptor: %w", ErrDescriptors)
	}
	var m Failed
	if err := m.UnmarshalBinary(f.Body); err != nil {
		return err
	}
	return &StepError{Step: m.Step, Index: m.Index, Errno: syscall.Errno(m.Errno)}
}

// LastExit is what the init said of its program's end before it died itself: that
// still lies in the socket, so it waits a second at most. False: the init said nothing.
func LastExit(c *Conn) (syscall.WaitStatus, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	f, err := c.Recv(ctx, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	var m Exit
	if m.UnmarshalBinary(f.Body) != nil {
		return 0, false
	}
	return m.Status, true
}
