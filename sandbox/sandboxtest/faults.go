package sandboxtest

import (
	"encoding/binary"
	"io"
	"sync"
	"syscall"
)

// Fault is what may happen to a frame on its way.
type Fault string

// The faults. All but Duplicate and Reorder are the last thing that happens in that direction, or at all.
const (
	Close     Fault = "close"     // the connection is closed before the frame
	Reset     Fault = "reset"     // the same, and both ends are told ECONNRESET where they can be
	Truncate  Fault = "truncate"  // half of the frame, and then the connection is closed
	Stall     Fault = "stall"     // this frame and all that follow it stay on their way
	Garbage   Fault = "garbage"   // a body that is no message, as long as the true one
	Oversize  Fault = "oversize"  // a length of 4 GiB less one
	Duplicate Fault = "duplicate" // the frame comes twice
	Reorder   Fault = "reorder"   // the frame comes after the next one
)

// AllFaults are the faults, for tests that try each.
func AllFaults() []Fault {
	return []Fault{Close, Reset, Truncate, Stall, Garbage, Oversize, Duplicate, Reorder}
}

// Faults spoils one frame of a connection, to be given to sandbox.Transport by
// its Wrap. The frames of each direction are counted from 0, the greeting.
//
//	sandbox.Transport(sandboxtest.Faults{Do: sandboxtest.Stall, At: 3}.Wrap)
//
// With every actor of a tree the same happens; where one is to be spared, the
// function given to sandbox.Transport decides.
type Faults struct {
	Do  Fault // "": none
	At  int   // which frame
	Out bool  // of those that the wrapped end writes; else of those that it reads
}

// Wrap gives rw with the fault on its way. Closing it closes rw.
func (f Faults) Wrap(rw io.ReadWriteCloser) io.ReadWriteCloser {
	s := &spoiled{rw: rw, closed: make(chan struct{})}
	if f.Out {
		s.out.fault, s.in.fault = f, Faults{At: -1}
	} else {
		s.in.fault, s.out.fault = f, Faults{At: -1}
	}
	return s
}

// spoiled is a connection with a fault on its way.
type spoiled struct {
	rw      io.ReadWriteCloser
	in, out lane
	once    sync.Once
	closed  chan struct{}
}

// lane is one direction. It has one user at a time, as a connection has.
type lane struct {
	fault Faults
	count int
	part  []byte // of a frame that is not whole yet
	late  []byte // a frame that is to come after the next
	ready []byte // in: what may be read
	over  error  // what follows, and then nothing
	stall bool
}

// pass takes bytes and gives those that go on: frames, whole but for the fault's.
func (l *lane) pass(p []byte) (on []byte) {
	l.part = append(l.part, p...)
	for len(l.part) >= 4 && l.over == nil && !l.stall {
		n := 4 + int(binary.LittleEndian.Uint32(l.part))
		if len(l.part) < n {
			break
		}
		frame := l.part[:n:n]
		l.part = l.part[n:]
		on = append(on, l.spoil(frame)...)
		l.count++
	}
	return on
}

func (l *lane) spoil(frame []byte) []byte {
	if l.late != nil {
		frame, l.late = append(frame, l.late...), nil
	}
	if l.count != l.fault.At {
		return frame
	}
	switch l.fault.Do {
	case Close:
		l.over = io.EOF
		return nil
	case Reset:
		l.over = syscall.ECONNRESET
		return nil
	case Truncate:
		l.over = io.EOF
		return frame[:len(frame)/2]
	case Stall:
		l.stall = true
		return nil
	case Garbage:
		for i := range frame[4:] {
			frame[4+i] = 0xc1
		}
	case Oversize:
		binary.LittleEndian.PutUint32(frame, 1<<32-1)
	case Duplicate:
		return append(frame, frame...)
	case Reorder:
		l.late = frame
		return nil
	}
	return frame
}

func (s *spoiled) Read(p []byte) (int, error) {
	l := &s.in
	buf := make([]byte, 32<<10)
	for len(l.ready) == 0 {
		switch {
		case l.over != nil:
			s.Close()
			return 0, l.over
		case l.stall:
			<-s.closed
			return 0, io.ErrClosedPipe
		}
		n, err := s.rw.Read(buf)
		if l.ready = l.pass(buf[:n]); err != nil {
			l.over = err
		}
	}
	n := copy(p, l.ready)
	l.ready = l.ready[n:]
	return n, nil
}

func (s *spoiled) Write(p []byte) (int, error) {
	l := &s.out
	if l.over == nil && !l.stall {
		if on := l.pass(p); len(on) > 0 {
			if _, err := s.rw.Write(on); err != nil {
				return 0, err
			}
		}
	}
	switch {
	case l.over != nil:
		s.Close()
		return 0, l.over
	case l.stall:
		<-s.closed
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// Close closes what is wrapped, once.
func (s *spoiled) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		err = s.rw.Close()
	})
	return err
}
