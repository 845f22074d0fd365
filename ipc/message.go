package ipc

import (
	"fmt"
	"strconv"
	"syscall"

	"sandboxd/ipc/wire"
)

// Proto is the version of the handshake; a peer of another one is refused.
const Proto = 1

// Type is the first element of every message.
type Type uint8

// The closed set of messages, each with a fixed layout.
const (
	TypeHello    Type = 1 // init → supervisor
	TypeWelcome  Type = 2 // supervisor → init
	TypeReady    Type = 3 // init → supervisor
	TypeFailed   Type = 4 // init → supervisor
	TypeConfined Type = 5 // program's process → supervisor
	TypeProceed  Type = 6 // supervisor → program's process
	TypeExit     Type = 7 // init → supervisor
	TypeSignal   Type = 8 // supervisor → init, where that is on another kernel
)

var typeNames = [...]string{
	TypeHello: "Hello", TypeWelcome: "Welcome", TypeReady: "Ready", TypeFailed: "Failed",
	TypeConfined: "Confined", TypeProceed: "Proceed", TypeExit: "Exit", TypeSignal: "Signal",
}

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// TypeOf returns the type of the message in body. It may be one we do not
// know; ErrMalformed means that body is no message at all.
func TypeOf(body []byte) (Type, error) {
	if len(body) < 2 || body[0]&0xf0 != 0x90 || body[0] == 0x90 || body[1] > 0x7f {
		return 0, fmt.Errorf("ipc: not an array that begins with a message type: %w", ErrMalformed)
	}
	return Type(body[1]), nil
}

// maxPID is the largest pid Linux can be told to hand out (PID_MAX_LIMIT,
// proc_sys_kernel(5)). Beyond it lie -1 and friends, which kill(2) obeys.
const maxPID = 1 << 22

// Hello is what the init says first.
type Hello struct {
	Proto uint8
	Actor string // at most 255 bytes
	Epoch uint64
	Nonce [16]byte
	PID   int // as the init sees itself; a claim, 1 to 4194304
}

// AppendBinary adds the message to b. It fails on values that have no layout.
func (m *Hello) AppendBinary(b []byte) ([]byte, error) {
	if len(m.Actor) > 255 {
		return b, fmt.Errorf("ipc: Hello: actor of %d bytes, at most 255: %w", len(m.Actor), ErrMalformed)
	}
	b = begin(b, 6, TypeHello)
	b = wire.AppendUint8(b, m.Proto)
	b = wire.AppendStr8(b, m.Actor)
	b = wire.AppendUint64(b, m.Epoch)
	b = wire.AppendBin8(b, m.Nonce[:])
	return appendPID(b, TypeHello, m.PID)
}

// UnmarshalBinary accepts exactly what AppendBinary makes, as do those below.
func (m *Hello) UnmarshalBinary(body []byte) error {
	return decode(m, body, 6, TypeHello, func(r *wire.Reader) (v Hello) {
		v.Proto = r.Uint8()
		v.Actor = r.Str8()
		v.Epoch = r.Uint64()
		r.Bin8(v.Nonce[:])
		v.PID = readPID(r)
		return v
	})
}

// MaxPlan is the longest Plan, in bytes, that a Welcome within DefaultCap holds.
const MaxPlan = DefaultCap - 16

// Welcome answers Hello and carries the second half of the plan.
type Welcome struct {
	Epoch uint64
	Plan  []byte // at most MaxPlan bytes
}

// AppendBinary adds the message to b.
func (m *Welcome) AppendBinary(b []byte) ([]byte, error) {
	if len(m.Plan) > MaxPlan {
		return b, fmt.Errorf("ipc: Welcome: plan of %d bytes, at most %d: %w", len(m.Plan), MaxPlan, ErrFrameTooLarge)
	}
	b = begin(b, 3, TypeWelcome)
	b = wire.AppendUint64(b, m.Epoch)
	return wire.AppendBin32(b, m.Plan), nil
}

// UnmarshalBinary copies the plan out of body.
func (m *Welcome) UnmarshalBinary(body []byte) error {
	return decode(m, body, 3, TypeWelcome, func(r *wire.Reader) Welcome {
		return Welcome{Epoch: r.Uint64(), Plan: append([]byte{}, r.Bin32()...)}
	})
}

// Ready says that the program runs. It may come with a terminal's descriptor.
type Ready struct {
	PID int // the program's, inside the sandbox; a claim, 1 to 4194304
}

// AppendBinary adds the message to b.
func (m *Ready) AppendBinary(b []byte) ([]byte, error) {
	return appendPID(begin(b, 2, TypeReady), TypeReady, m.PID)
}

// UnmarshalBinary accepts exactly the layout above.
func (m *Ready) UnmarshalBinary(body []byte) error {
	return decode(m, body, 2, TypeReady, func(r *wire.Reader) Ready { return Ready{PID: readPID(r)} })
}

// Confined says that the program's process has locked itself in and waits for
// Proceed. It may come with the descriptor of a seccomp listener.
type Confined struct {
	PID int // as in Ready
}

// AppendBinary adds the message to b.
func (m *Confined) AppendBinary(b []byte) ([]byte, error) {
	return appendPID(begin(b, 2, TypeConfined), TypeConfined, m.PID)
}

// UnmarshalBinary accepts exactly the layout above.
func (m *Confined) UnmarshalBinary(body []byte) error {
	return decode(m, body, 2, TypeConfined, func(r *wire.Reader) Confined { return Confined{PID: readPID(r)} })
}

// Proceed answers Confined.
type Proceed struct{}

// AppendBinary adds the message to b.
func (m *Proceed) AppendBinary(b []byte) ([]byte, error) { return begin(b, 1, TypeProceed), nil }

// UnmarshalBinary accepts exactly the layout above.
func (m *Proceed) UnmarshalBinary(body []byte) error {
	return decode(m, body, 1, TypeProceed, func(*wire.Reader) Proceed { return Proceed{} })
}

// Failed says that a step of the plan failed, in place of Ready.
type Failed struct {
	Step, Index uint16
	Errno       uint16
}

// AppendBinary adds the message to b.
func (m *Failed) AppendBinary(b []byte) ([]byte, error) {
	b = begin(b, 4, TypeFailed)
	b = wire.AppendUint16(b, m.Step)
	b = wire.AppendUint16(b, m.Index)
	return wire.AppendUint16(b, m.Errno), nil
}

// UnmarshalBinary accepts exactly the layout above.
func (m *Failed) UnmarshalBinary(body []byte) error {
	return decode(m, body, 4, TypeFailed, func(r *wire.Reader) Failed {
		return Failed{Step: r.Uint16(), Index: r.Uint16(), Errno: r.Uint16()}
	})
}

// Exit is the init's word on how the program ended: a hint for humans, since
// the truth is what the launcher's wait says.
type Exit struct {
	Status syscall.WaitStatus // as of wait(2)
}

// AppendBinary adds the message to b.
func (m *Exit) AppendBinary(b []byte) ([]byte, error) {
	return wire.AppendUint32(begin(b, 2, TypeExit), uint32(m.Status)), nil
}

// UnmarshalBinary accepts exactly the layout above.
func (m *Exit) UnmarshalBinary(body []byte) error {
	return decode(m, body, 2, TypeExit, func(r *wire.Reader) Exit { return Exit{Status: syscall.WaitStatus(r.Uint32())} })
}

// Signal has the init signal the program, where no pidfd leads to it.
type Signal struct {
	Number uint8
}

// AppendBinary adds the message to b.
func (m *Signal) AppendBinary(b []byte) ([]byte, error) {
	return wire.AppendUint8(begin(b, 2, TypeSignal), m.Number), nil
}

// UnmarshalBinary accepts exactly the layout above.
func (m *Signal) UnmarshalBinary(body []byte) error {
	return decode(m, body, 2, TypeSignal, func(r *wire.Reader) Signal { return Signal{Number: r.Uint8()} })
}

func begin(b []byte, elements uint8, t Type) []byte {
	return wire.AppendFixint(wire.AppendArray(b, elements), uint8(t))
}

// decode reads body, which must be a message of type t with so many elements
// and nothing else, into m. A body that is refused leaves m as it was.
func decode[M any](m *M, body []byte, elements uint8, t Type, fields func(*wire.Reader) M) error {
	got, err := TypeOf(body)
	if err != nil {
		return err
	}
	if got != t {
		return fmt.Errorf("ipc: %v where %v belongs: %w", got, t, ErrUnexpected)
	}
	r := wire.NewReader(body)
	r.Array(elements)
	r.Fixint(uint8(t))
	v := fields(&r)
	if err := r.Done(); err != nil {
		return fmt.Errorf("ipc: %v: %w: %w", t, ErrMalformed, err)
	}
	*m = v
	return nil
}

func appendPID(b []byte, t Type, pid int) ([]byte, error) {
	if err := checkPID(pid); err != nil {
		return b, fmt.Errorf("ipc: %v: %w: %w", t, ErrMalformed, err)
	}
	return wire.AppendUint32(b, uint32(pid)), nil
}

func readPID(r *wire.Reader) int {
	pid := int(r.Uint32())
	if err := checkPID(pid); err != nil {
		r.Fail(err)
	}
	return pid
}

func checkPID(pid int) error {
	if pid < 1 || pid > maxPID {
		return fmt.Errorf("pid %d is outside 1 to %d", pid, maxPID)
	}
	return nil
}
