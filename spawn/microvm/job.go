package microvm

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"syscall"

	"sandboxd/rootfs"
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
	"sandboxd/vm"
	"sandboxd/vm/guest"
)

// The frames between the supervisor and the monitor, and between the monitor and the guest.
const (
	frameJob    guest.Kind = 'j' // supervisor → monitor: part of a job; an empty one ends it
	frameExe    guest.Kind = 'e' // likewise, after a job with an Exe: part of the program; an empty one ends it
	frameSignal guest.Kind = 's' // supervisor → monitor → guest: one byte

	frameBooted  guest.Kind = 'b' // guest → monitor → supervisor: the guest is up
	frameProceed guest.Kind = 'g' // supervisor → monitor → guest, then: start the program
	frameStarted guest.Kind = 'r' // likewise: the program's exec has succeeded
	frameFailed  guest.Kind = '!' // likewise, instead of frameStarted: JSON failed
	frameExited  guest.Kind = 'x' // guest → monitor: JSON exited
	frameFinal   guest.Kind = 'f' // monitor → supervisor: JSON final; the monitor then ends as the program did
	frameLost    guest.Kind = 'l' // likewise, where the machine ended without a word: text

	frameIn  guest.Kind = 'i' // monitor → guest: stdin; an empty one ends it, and sent back: nobody reads it
	frameOut guest.Kind = 'o' // guest → monitor: output; an empty one ends it, and sent back: nobody reads it

	// Of connections, see relay: a byte with the number of one comes first.
	frameConnect guest.Kind = 'c' // guest → monitor: a program connects to the actor's socket
	frameData    guest.Kind = 'd' // both ways; with nothing else it ends the connection that way
)

// The ports of a guest.
const (
	portControl = "sandboxd.control"
	portIn      = "sandboxd.stdin"
	portOut     = "sandboxd.stdout"
	portErr     = "sandboxd.stderr"
	portPeer    = "sandboxd.peer"
)

// text is a string of any bytes: JSON's would not hold them.
type text string

// MarshalText implements encoding.TextMarshaler.
func (t text) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, []byte(t)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *text) UnmarshalText(b []byte) error {
	s, err := base64.StdEncoding.DecodeString(string(b))
	*t = text(s)
	return err
}

func texts(list []string) []text {
	t := make([]text, len(list))
	for i, s := range list {
		t[i] = text(s)
	}
	return t
}

func strs(list []text) []string {
	s := make([]string, len(list))
	for i, t := range list {
		s[i] = string(t)
	}
	return s
}

// job is what the monitor is to do.
type job struct {
	Machine vm.Config // but for what the monitor opens itself
	Modules string    // the directory of the kernel's modules
	Guest   []string  // arguments of the guest's init
	Run     run
}

// run is what the guest is to do: a file of its initramfs.
type run struct {
	Modules []string // in the order to load; the monitor's
	Shares  []share
	Links   [][2]string // path and text
	Peer    bool
	PIDs    int64

	Exe       uint32 // mode of the program that is given by descriptor; 0: there is none
	Argv, Env []text
	Dir       text
	UID, GID  int
	Root      rootfs.Kind
	RootPath  string
	Writable  bool
	Mounts    []mounted
	Scratch   spawn.Scratch
	Hostname  string
	TimeNS    bool
	Rlimits   []spawn.Rlimit
	Umask     uint32
	Filter    []byte
	Landlock  bool
}

// share is where the guest mounts a vm.Share.
type share struct {
	Tag, At  string
	Writable bool
	Fixed    bool // nobody changes it meanwhile, so that it can be cached
}

type mounted struct {
	Source   string
	Target   text
	Writable bool
}

// Files of the guest's initramfs.
const (
	jobFile = "vm/run.json"
	exeFile = "vm/exe"
)

// send gives the monitor its job; exe is nil, or the program.
func (j *job) send(c *guest.Conn, exe io.ReaderAt) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	if err := errors.Join(c.Send(frameJob, b), c.Send(frameJob, nil)); err != nil || j.Run.Exe == 0 {
		return err
	}
	return errors.Join(c.SendAll(frameExe, io.NewSectionReader(exe, 0, math.MaxInt64)), c.Send(frameExe, nil))
}

// receiveJob takes what send sends; the program goes to exe.
func receiveJob(c *guest.Conn, exe io.Writer) (*job, error) {
	var b bytes.Buffer
	if err := receiveAll(c, frameJob, &b); err != nil {
		return nil, err
	}
	j := new(job)
	if err := json.Unmarshal(b.Bytes(), j); err != nil || j.Run.Exe == 0 {
		return j, err
	}
	return j, receiveAll(c, frameExe, exe)
}

// receiveAll takes frames of one kind, up to the empty one.
func receiveAll(c *guest.Conn, kind guest.Kind, to io.Writer) error {
	for {
		k, body, err := c.Receive()
		switch {
		case err != nil:
			return err
		case k != kind:
			return fmt.Errorf("a frame %q instead of %q", k, kind)
		case len(body) == 0:
			return nil
		}
		if _, err := to.Write(body); err != nil {
			return err
		}
	}
}

// failed is why a program did not start.
type failed struct {
	Text  string
	Step  uint16 // a plan.Kind, of a spawn.StepError; Text is then the object
	Index int
	Errno int // 0: no step failed
}

func newFailed(err error) failed {
	if step, ok := errors.AsType[*spawn.StepError](err); ok {
		return failed{cut(step.Object), uint16(step.Step), step.Index, int(step.Errno)}
	}
	return failed{Text: cut(err.Error())}
}

// failure reads a failed, which a guest may have made up.
func failure(body []byte) error {
	var f failed
	if err := json.Unmarshal(body, &f); err != nil {
		return fmt.Errorf("%w: the guest failed, and its reason cannot be read: %w", spawn.ErrBoot, err)
	}
	if f.Errno > 0 && f.Errno < 4096 {
		return &spawn.StepError{Step: plan.Kind(f.Step), Index: f.Index, Object: word([]byte(f.Text)), Errno: syscall.Errno(f.Errno)}
	}
	return fmt.Errorf("%w: %s", spawn.ErrBoot, word([]byte(f.Text)))
}

// exited is what the guest says of its program's end.
type exited struct {
	Status uint32 // as wait(2) has it
	Facts  final
}

// final is spawn.GuestEnd.
type final spawn.GuestEnd

// readFinal believes numbers, not words.
func readFinal(body []byte) final {
	var f final
	if json.Unmarshal(body, &f) != nil {
		return final{}
	}
	return final{OOMKills: max(f.OOMKills, 0), PIDsMax: max(f.PIDsMax, 0), DiskFull: f.DiskFull, DiskBytes: max(f.DiskBytes, 0)}
}

// most bounds a word of the guest's, in bytes.
const most = 4 << 10

func cut(s string) string { return strings.ToValidUTF8(s[max(0, len(s)-most):], "?") }

// word is a text of the guest's, fit for an error.
func word(b []byte) string { return strings.TrimSpace(guest.Printable([]byte(cut(string(b))))) }
