package abuse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/ipc/session"
	"sandboxd/sandbox"
	"sandboxd/sandbox/peer"
)

// shout is a program that says bytes instead of hello, and waits.
func shout(says []byte) func([]string) error {
	return func(args []string) error {
		if len(args) > 0 { // the control: what a program should do
			var mux peer.Mux
			return peer.Serve(context.Background(), &mux)
		}
		c, err := ipc.Dial(socket())
		if err != nil {
			return err
		}
		_, err = c.Write(says)
		time.Sleep(patience)
		return err
	}
}

func socket() string {
	if path := os.Getenv("SANDBOXD_PEER"); path != "" {
		return path
	}
	return peer.Socket
}

// mute is a case of a program that does not say hello as it should.
func mute(id, says string, payload []byte) Case {
	c := Case{ID: id, Says: says, Want: "refused", Attack: shout(payload)}
	c.Run = func(s *stage) (string, error) {
		spec := s.this(c.ID)
		if s.control {
			spec.Argv = append(spec.Argv, "properly")
		}
		spec.Peer, spec.BootTimeout = true, s.soon(300*time.Millisecond)
		if s.control {
			spec.BootTimeout = patience
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := sandbox.Run(s.ctx, func(ctx context.Context, n *sandbox.Nursery) error {
			_, err := n.Start(ctx, spec)
			return err
		}, sandbox.On(s.suite.host))
		runtime.ReadMemStats(&after)
		switch grown := after.TotalAlloc - before.TotalAlloc; {
		case grown > 32<<20:
			return fmt.Sprintf("the supervisor took %d MiB", grown>>20), nil
		case err != nil:
			s.suite.note(err)
			return "refused", nil
		}
		return Through, nil
	}
	return c
}

func framed(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func handshakeCases() []Case {
	return []Case{
		mute("handshake/silence", "connect, and say nothing", nil),
		mute("handshake/half-frame", "say the first half of a frame", []byte{64, 0, 0, 0, 0x93}),
		mute("handshake/huge-frame", "announce a frame of 4 GiB", []byte{0xff, 0xff, 0xff, 0xff, 0x93}),
		mute("handshake/array-bomb", "an array of 2^32-1 elements in five bytes", framed("\xdd\xff\xff\xff\xff")).from("vmihailenco/msgpack#401"),
		mute("handshake/bytes-bomb", "a string of 2^32-1 bytes in five", framed("\xc6\xff\xff\xff\xff")).from("vmihailenco/msgpack#376"),
		mute("handshake/map-bomb", "a map of 2^32-1 keys in five bytes", framed("\xdf\xff\xff\xff\xff")),
		mute("handshake/depth-bomb", "two million arrays within each other", framed(strings.Repeat("\x91", 2<<20))),
		mute("handshake/wrong-type", "a number instead of hello", framed("\x01")),
		{
			ID: "handshake/second", Says: "connect a second time, and say hello again", Want: "refused", NoControl: "that the first hello is accepted is part of the case",
			Attack: func([]string) error {
				var mux peer.Mux
				peer.Handle(&mux, "again", func(ctx context.Context, _ string) (string, error) {
					c, err := ipc.Dial(socket())
					if err != nil {
						return "", err
					}
					if _, err = peer.Over(ctx, c, nil); errors.Is(err, session.ErrBusy) {
						return "refused", nil
					}
					return Through, err
				})
				return peer.Serve(context.Background(), &mux)
			},
			Run: func(s *stage) (out string, err error) {
				spec := s.this("handshake/second")
				spec.Peer = true
				err = sandbox.Run(s.ctx, func(ctx context.Context, n *sandbox.Nursery) error {
					a, err := n.Start(ctx, spec)
					if err == nil {
						out, err = sandbox.Call[string, string](ctx, a, "again", "")
					}
					return err
				}, sandbox.On(s.suite.host))
				return out, err
			},
		},
		{
			ID: "handshake/stranger", Says: "connect to an actor's socket from outside of it", Want: "hung up",
			Attack: func(args []string) error {
				if len(args) > 0 { // the control: from inside
					c, err := ipc.Dial(socket())
					if err != nil {
						return err
					}
					defer c.Close()
				}
				fmt.Println(socket())
				time.Sleep(patience)
				return nil
			},
			Run: stranger,
		},
		{
			ID: "handshake/descriptors", Says: "send the supervisor descriptors that it did not ask for", Want: "dropped",
			NoControl: "a supervisor that takes them would be another program",
			Attack: func([]string) error {
				c, err := ipc.Dial(socket())
				if err != nil {
					return err
				}
				null, err := os.Open("/dev/null")
				if err != nil {
					return err
				}
				defer null.Close()
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				if err != nil {
					return err
				}
				c.Close()
				if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket()}); err != nil {
					return err
				}
				for range 32 {
					if err := unix.Sendmsg(fd, []byte("x"), unix.UnixRights(int(null.Fd()), 0, 1, 2), nil, 0); err != nil {
						return err
					}
				}
				time.Sleep(patience)
				return nil
			},
			Run: func(s *stage) (string, error) {
				spec := s.this("handshake/descriptors")
				spec.Peer = true
				p, err := s.suite.host.Start(s.ctx, spec)
				if err != nil {
					return "", err
				}
				defer func() { p.Cancel("attacked", 0); <-p.Gone() }()
				for range 2 { // the first connection is closed at once
					c, err := p.Accept(s.ctx)
					if errors.Is(err, os.ErrProcessDone) {
						return "not sent", nil // its own kernel refused, and it ended
					}
					if err != nil {
						return "", err
					}
					defer c.Close()
					before, err := os.ReadDir("/proc/self/fd")
					if err != nil {
						return "", err
					}
					if _, err := io.ReadFull(c, make([]byte, 32)); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
						continue
					} else if err != nil {
						return outcome(err), nil
					}
					after, err := os.ReadDir("/proc/self/fd")
					if len(after) > len(before) {
						return Through, err
					}
					return "dropped", err
				}
				return "not sent", nil // it came, and could not
			},
		},
	}
}

// stranger connects to an actor's socket from the host, which as root it can reach.
func stranger(s *stage) (string, error) {
	spec := s.this("handshake/stranger")
	if s.control {
		spec.Argv = append(spec.Argv, "inside")
	}
	spec.Peer = true
	r, w := io.Pipe()
	spec.Stdout = w
	p, err := s.suite.host.Start(s.ctx, spec)
	if err != nil {
		return "", err
	}
	defer func() { p.Cancel("attacked", 0); r.Close(); <-p.Gone() }()
	if !s.control {
		line := make([]byte, 256)
		n, err := r.Read(line)
		if err != nil {
			return "", err
		}
		path := strings.TrimSpace(string(line[:n]))
		if path == peer.Socket { // in the sandbox's root
			path = fmt.Sprintf("/proc/%d/root%s", p.PID(), path)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return outcome(err), nil
		}
	} else {
		go func() { _, _ = io.Copy(io.Discard, r) }()
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.soon(300*time.Millisecond))
	if s.control {
		cancel()
		ctx, cancel = context.WithTimeout(s.ctx, patience)
	}
	defer cancel()
	c, err := p.Accept(ctx)
	if err != nil {
		return "hung up", nil
	}
	return Through, c.Close()
}
