// Package job is what the wasm backend and its worker program
// (cmd/sandboxd-wasm) say to each other: the worker's arguments, and a few
// messages over the actor's socket before the module runs.
//
//	argv := job.Job{Pages: 512, Argv: []string{"tool.wasm", "-v"}, Env: env}.Args()
//
// The worker connects, says Opened, hears Begin, and says Ready or Failed. It
// says Opened before it has looked at any byte of the module, so that what
// Opened says is true, whatever the module is; what follows may be a lie.
//
// Non-goals: what a program says to its supervisor (docs/protocol.md).
package job

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"syscall"

	"sandboxd/ipc/wire"
)

// Version is that of what follows: both programs must have the same.
const Version = 1

// Program is the name of the worker's file.
const Program = "sandboxd-wasm"

// MaxModule is how many bytes a module may have.
const MaxModule = 512 << 20

// PageSize is that of a module's memory.
const PageSize = 64 << 10

// Job is one program.
type Job struct {
	Memory int64    // bytes that the actor may have; 0: nobody limits it
	Pages  uint32   // what of it the module's memory may grow to
	Peer   bool     // it may talk to its supervisor
	Env    []string // KEY=value, the module's
	Argv   []string // Argv[0] is the module's file
}

// Args is the worker's command line.
func (j Job) Args() []string {
	a := []string{Program, "run", strconv.Itoa(Version), strconv.FormatInt(j.Memory, 10), strconv.FormatUint(uint64(j.Pages), 10), strconv.FormatBool(j.Peer), strconv.Itoa(len(j.Env))}
	return slices.Concat(a, j.Env, j.Argv)
}

// Parse reads what Args made, of this version only.
func Parse(args []string) (Job, error) {
	const head = 7
	if len(args) < head || args[1] != "run" {
		return Job{}, errors.New("no job")
	}
	if args[2] != strconv.Itoa(Version) {
		return Job{}, fmt.Errorf("version %s was asked for, this is %d", args[2], Version)
	}
	memory, err1 := strconv.ParseInt(args[3], 10, 64)
	pages, err2 := strconv.ParseUint(args[4], 10, 32)
	peer, err3 := strconv.ParseBool(args[5])
	env, err4 := strconv.ParseUint(args[6], 10, 31)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Job{}, err
	}
	if rest := args[head:]; int(env) < len(rest) {
		return Job{Memory: memory, Pages: uint32(pages), Peer: peer, Env: rest[:env], Argv: rest[env:]}, nil
	}
	return Job{}, errors.New("no program")
}

// Types of the messages.
const (
	opened = iota + 1
	begin
	ready
	failed
)

// Sum is a SHA-256.
type Sum [32]byte

// Opened says that the module could be opened and read. From the worker.
type Opened struct{ Module Sum }

// Begin lets the worker look into the module. With it goes the module's
// compiled form, a sealed memory file, where there is one; Name is what the
// worker's runtime calls that.
type Begin struct{ Name string }

// Ready says that the module is compiled and fits. From the worker. With it goes
// the compiled form where it was made anew; Name is what the runtime calls that.
type Ready struct{ Name string }

// Failed says why the module will not run. From the worker, in place of Opened or Ready.
type Failed struct {
	Errno syscall.Errno
	Text  string // at most 255 bytes
}

// AppendBinary adds the message to b.
func (m *Opened) AppendBinary(b []byte) ([]byte, error) {
	return wire.AppendBin8(head(b, 2, opened), m.Module[:]), nil
}

// UnmarshalBinary accepts exactly what AppendBinary makes, as do those below.
func (m *Opened) UnmarshalBinary(body []byte) error {
	r := reader(body, 2, opened)
	var v Opened
	r.Bin8(v.Module[:])
	return done(&r, m, v)
}

// AppendBinary adds the message to b. It fails on a name of more than 255 bytes.
func (m *Begin) AppendBinary(b []byte) ([]byte, error) { return named(b, begin, m.Name) }

// UnmarshalBinary accepts exactly that layout.
func (m *Begin) UnmarshalBinary(body []byte) error {
	r := reader(body, 2, begin)
	return done(&r, m, Begin{r.Str8()})
}

// AppendBinary adds the message to b. It fails on a name of more than 255 bytes.
func (m *Ready) AppendBinary(b []byte) ([]byte, error) { return named(b, ready, m.Name) }

// UnmarshalBinary accepts exactly that layout.
func (m *Ready) UnmarshalBinary(body []byte) error {
	r := reader(body, 2, ready)
	return done(&r, m, Ready{r.Str8()})
}

// AppendBinary adds the message to b; a longer text is cut.
func (m *Failed) AppendBinary(b []byte) ([]byte, error) {
	text := m.Text[:min(len(m.Text), math.MaxUint8)]
	return wire.AppendStr8(wire.AppendUint16(head(b, 3, failed), uint16(m.Errno)), text), nil
}

// UnmarshalBinary accepts exactly that layout.
func (m *Failed) UnmarshalBinary(body []byte) error {
	r := reader(body, 3, failed)
	v := Failed{Errno: syscall.Errno(r.Uint16()), Text: r.Str8()}
	if v.Errno == 0 {
		r.Fail(errors.New("no errno"))
	}
	return done(&r, m, v)
}

func named(b []byte, kind uint8, name string) ([]byte, error) {
	if len(name) > math.MaxUint8 {
		return b, fmt.Errorf("a name of %d bytes, at most %d", len(name), math.MaxUint8)
	}
	return wire.AppendStr8(head(b, 2, kind), name), nil
}

func head(b []byte, elements, kind uint8) []byte {
	return wire.AppendFixint(wire.AppendArray(b, elements), kind)
}

func reader(body []byte, elements, kind uint8) wire.Reader {
	r := wire.NewReader(body)
	r.Array(elements)
	r.Fixint(kind)
	return r
}

// done sets m, if all was as it should be.
func done[M any](r *wire.Reader, m *M, v M) error {
	err := r.Done()
	if err == nil {
		*m = v
	}
	return err
}
