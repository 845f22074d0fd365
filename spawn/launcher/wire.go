package launcher

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/plan"
)

// The control protocol, mirrored in init/launch.c. One message per packet, native (little-endian) integers.
const (
	opRun    = 1 // execute a plan in the launcher itself
	opSpawn  = 2
	opReexec = 3
	opKill   = 4 // the sandbox of an earlier id, whose pidfd was lost

	evDone    = 1
	evSpawned = 2
	evFailed  = 3
	evExited  = 4

	flagKeepKill      = 1
	flagDenySetgroups = 2
	flagPidns         = 4

	noSlot    = 0xff
	maxBody   = 131072
	eventSize = 64
	maxText   = 4096 // behind a failure of Options.Program
)

type request struct {
	op, id         uint32
	cloneFlags     uint64
	plan, before   []byte
	uidMap, gidMap string
	flags, into    uint32
	files          []*os.File
}

func (q *request) encode() ([]byte, error) {
	b := make([]byte, 0, 64+len(q.plan)+len(q.before)+len(q.uidMap)+len(q.gidMap))
	le := binary.LittleEndian
	b = le.AppendUint32(b, q.op)
	b = le.AppendUint32(b, q.id)
	b = le.AppendUint64(b, q.cloneFlags)
	for _, n := range []int{len(q.plan), len(q.before), len(q.uidMap), len(q.gidMap), len(q.files), int(q.flags), int(q.into), 0} {
		b = le.AppendUint32(b, uint32(n))
	}
	b = append(append(append(append(b, q.plan...), q.before...), q.uidMap...), q.gidMap...)
	if len(b) > maxBody {
		return nil, fmt.Errorf("launcher: a plan of %d bytes does not fit a request of %d; use fewer mounts", len(b), maxBody)
	}
	return b, nil
}

// StepError is a step of a plan that failed.
type StepError struct {
	Section string    // setup, prepare, before or after (the handshake)
	Step    plan.Kind // 0: the clone itself
	Index   int       // position in its section
	Errno   syscall.Errno
	Detail  string // the step in words, filled by who holds the plan
}

func (e *StepError) Error() string {
	what := e.Detail
	switch {
	case what == "" && e.Step == 0:
		what = "clone"
	case what == "":
		what = e.Step.String()
	}
	return fmt.Sprintf("%s step %d: %s: %v", e.Section, e.Index, what, e.Errno)
}

func (e *StepError) Unwrap() error { return e.Errno }

// Describe adds the step's words from the plan that it belongs to.
func (e *StepError) Describe(steps []plan.Step) *StepError {
	if e.Index < len(steps) && steps[e.Index].Kind == e.Step {
		e.Detail = steps[e.Index].String()
	}
	return e
}

var sections = [...]string{"setup", "prepare", "before", "after"}

type event struct {
	kind, id uint32
	fail     *StepError // nil: no step failed
	exit     Exit
	fds      []int
	text     string        // of a JobError
	errno    syscall.Errno // of a JobError
}

// Exit is what the launcher's wait4(2) said of a sandbox's init. Usage covers
// everything that died in the sandbox, its orphans included.
type Exit struct {
	Status       syscall.WaitStatus
	Fail         *StepError // a step that failed before the handshake; nil if none
	UserUS       int64      // microseconds of CPU
	SystemUS     int64
	MaxRSSBytes  int64 // of the largest single process
	ReadBytes    int64 // from block devices
	WrittenBytes int64
}

func decodeEvent(b, oob []byte) (*event, error) {
	if len(b) < eventSize || len(b) > eventSize+maxText {
		return nil, fmt.Errorf("launcher: event of %d bytes, want %d", len(b), eventSize)
	}
	le := binary.LittleEndian
	e := &event{kind: le.Uint32(b), id: le.Uint32(b[4:]), text: string(b[eventSize:]), errno: syscall.Errno(le.Uint16(b[14:]))}
	if errno := le.Uint16(b[14:]); errno != 0 {
		e.fail = &StepError{
			Section: sections[le.Uint16(b[8:])%4], Step: plan.Kind(le.Uint16(b[10:])),
			Index: int(le.Uint16(b[12:])), Errno: syscall.Errno(errno),
		}
	}
	i64 := func(at int) int64 { return int64(le.Uint64(b[at:])) }
	e.exit = Exit{
		Status: syscall.WaitStatus(i64(16)), Fail: e.fail, UserUS: i64(24), SystemUS: i64(32),
		MaxRSSBytes: i64(40) << 10, ReadBytes: i64(48) * 512, WrittenBytes: i64(56) * 512,
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("launcher: event descriptors: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, fmt.Errorf("launcher: event descriptors: %w", err)
		}
		e.fds = append(e.fds, fds...)
	}
	return e, nil
}
