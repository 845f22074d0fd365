package launcher

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/plan"
)

// JobError is a Job that Options.Program could not do, in its words.
type JobError struct {
	Text  string
	Errno syscall.Errno // 0: none
}

func (e *JobError) Error() string { return e.Text }

// Unwrap gives the errno, so that errors.Is(err, syscall.ENOENT) works.
func (e *JobError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Job is a Spawn as Options.Program gets it.
type Job struct {
	Text     []byte // Spawn.Job
	Plan     []byte // Spawn.Before, encoded: for the minimal init
	KeepKill bool
	Files    []*os.File // closed when the work is done

	id     uint32
	server *server
}

// Serve is for who was started as Options.Program: it reads requests from
// [ControlFD] until the supervisor is gone, and does each in a goroutine of
// its own. do returns when the sandbox has ended; before, it calls
// [Job.Started] once it runs, or fails.
func Serve(do func(*Job) (Exit, error)) error {
	unix.CloseOnExec(ControlFD)
	s := &server{pidfds: map[uint32]int{}}
	buf, oob := make([]byte, requestSize+maxBody), make([]byte, unix.CmsgSpace(maxFiles*4))
	for {
		n, noob, flags, _, err := unix.Recvmsg(ControlFD, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("control socket: %w", err)
		case n == 0:
			return nil
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			return errors.New("control socket: a request does not fit, or its descriptors do not")
		}
		q, err := decodeRequest(buf[:n], oob[:noob])
		if err != nil {
			return err
		}
		switch q.op {
		case opSpawn:
			j := &Job{Text: q.plan, Plan: q.before, KeepKill: q.flags&flagKeepKill != 0, Files: q.files, id: q.id, server: s}
			go s.do(j, do)
		case opKill:
			s.kill(q.id)
		default:
			return fmt.Errorf("control socket: operation %d is not known; both programs must be of one version", q.op)
		}
	}
}

// Remapped is for who was started as Options.Program with Options.MapIDs, and
// comes before all else: it waits until the ids are mapped, and executes this
// program anew, with argv, which is root of its user namespace then. Before, it
// may be called 0 already, and has no capabilities. It returns if that fails.
func Remapped(argv ...string) error {
	buf := make([]byte, requestSize+1)
	n, err := -1, error(unix.EINTR)
	for err == unix.EINTR {
		n, err = unix.Read(ControlFD, buf)
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if q, err := decodeRequest(buf[:n], nil); err != nil || q.op != opReexec {
		return errors.New("control socket: before the ids are mapped there is nothing else to do")
	}
	return unix.Exec("/proc/self/exe", argv, os.Environ())
}

// ControlFD is where who was started as Options.Program finds its control socket.
const ControlFD = 3

const (
	requestSize = 48
	maxFiles    = 24
)

type server struct {
	mu     sync.Mutex
	pidfds map[uint32]int // of live sandboxes
}

func (s *server) do(j *Job, do func(*Job) (Exit, error)) {
	exit, err := do(j)
	for _, f := range j.Files {
		f.Close()
	}
	s.mu.Lock()
	pidfd, started := s.pidfds[j.id]
	delete(s.pidfds, j.id)
	s.mu.Unlock()
	if started {
		unix.Close(pidfd)
		s.send(&event{kind: evExited, id: j.id, exit: exit}, nil)
		return
	}
	e := &event{kind: evFailed, id: j.id, text: "it ended before it began"}
	if err != nil {
		e.text = err.Error()
		_ = errors.As(err, &e.errno)
	}
	s.send(e, nil)
}

// Started tells the supervisor that the sandbox runs. It takes over pidfd; the other two stay the caller's.
func (j *Job) Started(pidfd int, listener, scratch *os.File) {
	j.server.mu.Lock()
	j.server.pidfds[j.id] = pidfd
	j.server.mu.Unlock()
	fds := []int{pidfd, int(listener.Fd())}
	if scratch != nil {
		fds = append(fds, int(scratch.Fd()))
	}
	j.server.send(&event{kind: evSpawned, id: j.id}, fds)
}

func (s *server) kill(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pidfd, ok := s.pidfds[id]; ok {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
}

// send answers, if need be without descriptors, as init/launch.c does. A
// supervisor that cannot be told anything would wait for ever.
func (s *server) send(e *event, fds []int) {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	b := e.encode()
	for _, with := range [][]byte{oob, nil} {
		err := error(unix.EINTR)
		for err == unix.EINTR {
			err = unix.Sendmsg(ControlFD, b, with, nil, unix.MSG_NOSIGNAL)
		}
		if err == nil {
			return
		}
	}
	os.Exit(1)
}

func (e *event) encode() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(le.AppendUint32(make([]byte, 0, eventSize), e.kind), e.id)
	var fail StepError
	section := 0
	if e.exit.Fail != nil {
		fail = *e.exit.Fail
		for i, name := range sections {
			if name == fail.Section {
				section = i
			}
		}
	}
	errno := fail.Errno
	if e.text != "" {
		errno = e.errno
	}
	for _, v := range []uint16{uint16(section), uint16(fail.Step), uint16(fail.Index), uint16(errno)} {
		b = le.AppendUint16(b, v)
	}
	x := &e.exit
	for _, v := range []int64{int64(x.Status), x.UserUS, x.SystemUS, x.MaxRSSBytes >> 10, x.ReadBytes / 512, x.WrittenBytes / 512} {
		b = le.AppendUint64(b, uint64(v))
	}
	return append(b, e.text[:min(len(e.text), maxText)]...)
}

func decodeRequest(b, oob []byte) (*request, error) {
	le := binary.LittleEndian
	if len(b) < requestSize {
		return nil, io.ErrUnexpectedEOF
	}
	q := &request{op: le.Uint32(b), id: le.Uint32(b[4:]), cloneFlags: le.Uint64(b[8:]), flags: le.Uint32(b[36:]), into: le.Uint32(b[40:])}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("request descriptors: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, fmt.Errorf("request descriptors: %w", err)
		}
		for _, fd := range fds {
			q.files = append(q.files, os.NewFile(uintptr(fd), "request"))
		}
	}
	at, short := uint64(requestSize), false
	next := func(size uint32) []byte {
		from := at
		at += uint64(size)
		if short = short || at > uint64(len(b)); short {
			return nil
		}
		return bytes.Clone(b[from:at])
	}
	q.plan, q.before = next(le.Uint32(b[16:])), next(le.Uint32(b[20:]))
	q.uidMap, q.gidMap = string(next(le.Uint32(b[24:]))), string(next(le.Uint32(b[28:])))
	if short || at != uint64(len(b)) || len(q.files) != int(le.Uint32(b[32:])) {
		return nil, errors.New("control socket: a request is not as long as it says")
	}
	return q, nil
}

// Failed reads what a minimal init said of a step in the shared memory that it was given (see init/launch.c); nil if it said nothing.
func Failed(record [8]byte) *StepError {
	le := binary.LittleEndian
	errno := le.Uint16(record[6:])
	if errno == 0 {
		return nil
	}
	return &StepError{
		Section: sections[le.Uint16(record[:])%4], Step: plan.Kind(le.Uint16(record[2:])), Index: int(le.Uint16(record[4:])), Errno: syscall.Errno(errno),
	}
}
