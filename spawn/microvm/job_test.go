package microvm

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
	"sandboxd/vm/guest"
)

// Arguments of any bytes arrive as they are, however long.
func TestJob(t *testing.T) {
	var b bytes.Buffer
	c := &guest.Conn{RW: &b}
	args := []string{"", "\xff\x00ü", strings.Repeat("x", 3*guest.MaxBody)}
	program := strings.Repeat("\x7fELF", guest.MaxBody/2)
	if err := (&job{Run: run{Exe: 0o555, Argv: texts(args), Dir: "/\xfe", Filter: []byte{0, 1}}}).send(c, strings.NewReader(program)); err != nil {
		t.Fatal(err)
	}
	var exe bytes.Buffer
	j, err := receiveJob(c, &exe)
	if exe.String() != program {
		t.Errorf("the program came as %d bytes of %d, or others", exe.Len(), len(program))
	}
	if err != nil || strings.Join(strs(j.Run.Argv), " ") != strings.Join(args, " ") || j.Run.Dir != "/\xfe" || !bytes.Equal(j.Run.Filter, []byte{0, 1}) {
		t.Errorf("%.200v, %v", j, err)
	}
}

// A failed step comes back as what it was, for the supervisor's own words.
func TestFailure(t *testing.T) {
	step := &spawn.StepError{Step: plan.Exec, Index: 7, Object: `exec "x"`, Errno: syscall.ENOENT}
	for _, want := range []error{step, errors.New("no room")} {
		body, err := json.Marshal(newFailed(want))
		if err != nil {
			t.Fatal(err)
		}
		got := failure(body)
		if s, ok := errors.AsType[*spawn.StepError](got); want == error(step) && (!ok || *s != *step) || want != error(step) && !errors.Is(got, spawn.ErrBoot) {
			t.Errorf("%v came as %v", want, got)
		}
	}
}

// What a guest may say is bounded, fit for a terminal, and no number of it makes sense where it cannot.
func TestHostileGuest(t *testing.T) {
	for _, body := range []string{"", "{", "[]", `{"Errno":-1}`, `{"Errno":99999,"Text":"x"}`, `{"Step":-1}`, `{"Text":"\u001b[2J\u0000` + strings.Repeat("y", 60000) + `"}`} {
		err := failure([]byte(body))
		if !errors.Is(err, spawn.ErrBoot) || len(err.Error()) > 2*most || strings.ContainsAny(err.Error(), "\x1b\x00") {
			t.Errorf("%.40q became %.200q", body, err)
		}
	}
	for _, body := range []string{"", "x", `{"Machine":"root's","Lost":"no","OOMKills":-5,"DiskBytes":-1}`} {
		if f := readFinal([]byte(body)); f != (final{}) {
			t.Errorf("%s was believed: %+v", body, f)
		}
	}
	c := &guest.Conn{RW: bytes.NewBuffer([]byte{byte(frameFinal), 255, 255, 255, 255})}
	if _, _, err := c.Receive(); err == nil || !strings.Contains(err.Error(), "is the most") {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
	for _, status := range []uint32{0x137f, 0xffff, 127} {
		if err := die(syscall.WaitStatus(status)); err == nil {
			t.Errorf("a program ended with status %#x", status)
		}
	}
}
