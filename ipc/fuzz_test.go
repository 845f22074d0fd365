package ipc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime/metrics"
	"slices"
	"testing"

	"sandboxd/internal/hosttest"
)

// allocated returns the bytes ever allocated on the heap, without stopping it.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// FuzzDecode: what a decoder accepts, it encodes to the same bytes, and no two
// decoders accept the same bytes.
func FuzzDecode(f *testing.F) {
	for _, file := range []string{"accept.json", "refuse.json"} {
		for _, v := range vectors(f, file) {
			f.Add(unhex(f, v.Body))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		accepted := ""
		for name, blank := range blank {
			m := blank()
			if err := m.UnmarshalBinary(b); err != nil {
				if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnexpected) {
					t.Errorf("%s: error without a sentinel: %v", name, err)
				}
				continue
			}
			if accepted != "" {
				t.Errorf("both %s and %s", accepted, name)
			}
			accepted = name
			if got, err := m.AppendBinary(nil); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s: %x encodes to %x, %v", name, b, got, err)
			}
		}
	})
}

// feed writes b into a fresh connection in pieces of at most chunk+1 bytes and
// hangs up. What surely fits into the socket is written before feed returns,
// since coverage that depends on scheduling sends the fuzzing engine astray;
// for the same reason give it -fuzzminimizetime=10x.
func feed(t *testing.T, b []byte, chunk uint8) *Conn {
	a, c := pair(t)
	write := func() {
		defer a.Close()
		for piece := range slices.Chunk(b, int(chunk)+1) {
			if err := a.write(piece, nil); err != nil {
				return // the other end is closed
			}
		}
	}
	if len(b)/(int(chunk)+1) < 64 {
		write()
	} else {
		go write()
	}
	return c
}

// FuzzFrames: any bytes come out as the frames they are, in memory bounded by
// their number, and end in an error that says the peer is gone or wrong.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(framed([]byte("\x91\x06")), uint8(0))
	f.Add(append(framed([]byte("\x91\x06")), framed([]byte("\x92\x03\xce\x00\x00\x00\x02"))...), uint8(6))
	f.Add([]byte{0, 0, 0x10, 0, 1, 2, 3}, uint8(255))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(2))
	f.Add(framed(bytes.Repeat([]byte{7}, HandshakeCap+1)), uint8(255))
	f.Fuzz(func(t *testing.T, b []byte, chunk uint8) {
		before := allocated()
		c := feed(t, b, chunk)
		defer c.Close()
		c.cap.Store(DefaultCap)
		for rest := b; ; {
			frame, err := c.Recv(bounded(t), 0)
			if err != nil {
				if !errors.Is(err, ErrPeerGone) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrFrameTooLarge) {
					t.Fatalf("after %d bytes: %v", len(b)-len(rest), err)
				}
				if len(rest) >= 4 {
					if n := binary.LittleEndian.Uint32(rest); n > 0 && n <= DefaultCap && int(n) <= len(rest)-4 {
						t.Fatalf("a whole frame of %d bytes was not delivered: %v", n, err)
					}
				}
				break
			}
			if len(rest) < 4 || !bytes.HasPrefix(rest[4:], frame.Body) || int(binary.LittleEndian.Uint32(rest)) != len(frame.Body) {
				t.Fatalf("after %d bytes a frame of %d that was not sent", len(b)-len(rest), len(frame.Body))
			}
			rest = rest[4+len(frame.Body):]
		}
		// A frame of 5 bytes costs its bookkeeping; 1 MiB is for the engine.
		if got, bound := allocated()-before, uint64(1<<20+4096*len(b)); got > bound {
			t.Errorf("%d bytes in, %d allocated", len(b), got)
		}
	})
}

// FuzzHandshake feeds the supervisor's whole side any bytes, behind a good
// Hello or not. It must come back, with Ready only where the peer said so.
func FuzzHandshake(f *testing.F) {
	ready := framed(encode(f, &Ready{2}))
	confined := framed(encode(f, &Confined{2}))
	f.Add([]byte{}, false, uint8(0))
	f.Add(framed(encode(f, new(hello()))), false, uint8(3))
	f.Add(ready, true, uint8(0))
	f.Add(append(bytes.Clone(confined), ready...), true, uint8(255))
	f.Add(append(bytes.Clone(confined), confined...), true, uint8(255))
	f.Add(framed(encode(f, &Failed{1, 2, 3})), true, uint8(4))
	for _, v := range vectors(f, "refuse.json") {
		f.Add(framed(unhex(f, v.Body)), true, uint8(255))
	}
	good := framed(encode(f, new(hello())))
	f.Fuzz(func(t *testing.T, b []byte, greet bool, chunk uint8) {
		if greet {
			b = append(bytes.Clone(good), b...)
		}
		before := allocated()
		c := feed(t, b, chunk)
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience(20))
		defer cancel()
		_, err := ReadHello(ctx, c, expect())
		if err == nil {
			if err = SendWelcome(ctx, c, Welcome{Epoch: 3, Plan: []byte("plan")}); err == nil {
				_, _, err = AwaitReady(ctx, c, func(_ Cred, f *os.File) error {
					if f != nil {
						t.Error("a descriptor out of bytes")
					}
					return nil
				})
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("hangs: %v", err)
		}
		if said := bytes.Contains(b, []byte("\x07\x00\x00\x00\x92\x03\xce")); err == nil && !said {
			t.Errorf("ready, but %x does not say so", b)
		}
		if got, bound := allocated()-before, uint64(1<<20+4096*len(b)); got > bound {
			t.Errorf("%d bytes in, %d allocated", len(b), got)
		}
	})
}
