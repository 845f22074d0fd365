package launcher

import (
	"context"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/plan"
)

// Raw sends bytes and descriptors to the launcher as they are.
func (l *Launcher) Raw(b []byte, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	var err error
	if werr := l.raw.Write(func(fd uintptr) bool {
		err = unix.Sendmsg(int(fd), b, oob, nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN
	}); werr != nil {
		return werr
	}
	return err
}

// RunBytes is Run for a section that package plan would not encode.
func (l *Launcher) RunBytes(section []byte) (*StepError, error) {
	e, err := l.ask(context.Background(), &request{op: opRun, plan: section, into: noSlot}, nil)
	if err != nil {
		return nil, err
	}
	for _, fd := range e.fds {
		unix.Close(fd)
	}
	return e.fail, nil
}

// Head is a request without its body.
func Head(op, plan, before, uidMap, gidMap, files uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, op)
	b = le.AppendUint32(b, 1<<31) // an id that nobody waits for
	b = le.AppendUint64(b, 0)
	for _, n := range []uint32{plan, before, uidMap, gidMap, files, 0, noSlot, 0} {
		b = le.AppendUint32(b, n)
	}
	return b
}

// RunRequest is the message that Run sends.
func RunRequest(steps []plan.Step) ([]byte, error) {
	section, err := plan.Append(nil, steps)
	if err != nil {
		return nil, err
	}
	return (&request{op: opRun, plan: section, into: noSlot}).encode()
}

// Answer is what an event says: whether it is the end of a request, and what failed.
func Answer(b []byte) (done bool, fail *StepError, err error) {
	e, err := decodeEvent(b, nil)
	if err != nil {
		return false, nil, err
	}
	return e.kind == evDone, e.fail, nil
}

// Count tells how many requests wait for answers, and how many children live.
func (l *Launcher) Count() (waiting, live int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting), len(l.live)
}

// Image is the memory file that launchers are started from.
func Image() (*os.File, error) { return image() }
