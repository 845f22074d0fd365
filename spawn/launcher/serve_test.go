package launcher

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/plan"
)

// What a supervisor sends is what Serve reads, and the other way round.
func TestServeWire(t *testing.T) {
	q := &request{op: opSpawn, id: 7, cloneFlags: 1 << 40, plan: []byte("job"), before: []byte("plan"), uidMap: "0 1 1\n", gidMap: "0 2 1\n", flags: flagKeepKill, into: noSlot}
	b, err := q.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRequest(b, nil)
	if err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("%+v, %v; want %+v", got, err, q)
	}
	for n := range b {
		if _, err := decodeRequest(b[:n], nil); err == nil {
			t.Errorf("%d bytes of %d are taken for a request", n, len(b))
		}
	}
	fail := &StepError{Section: "before", Step: plan.Connect, Index: 3, Errno: unix.ECONNREFUSED}
	for _, e := range []*event{
		{kind: evSpawned, id: 1},
		{kind: evExited, id: 2, exit: Exit{Status: 0x8b, UserUS: 1, SystemUS: 2, MaxRSSBytes: 3 << 10, ReadBytes: 4 << 9, WrittenBytes: 5 << 9}},
		{kind: evExited, id: 3, fail: fail, errno: fail.Errno, exit: Exit{Status: 125 << 8, Fail: fail}},
		{kind: evFailed, id: 4, text: "why", exit: Exit{}},
	} {
		got, err := decodeEvent(e.encode(), nil)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%+v, %v; want %+v", got, err, e)
		}
	}
	long := &event{kind: evFailed, text: strings.Repeat("x", 2*maxText), errno: unix.ENOENT}
	if got, err := decodeEvent(long.encode(), nil); err != nil || len(got.text) != maxText || got.errno != unix.ENOENT {
		t.Errorf("a long text: %v, %v", got, err)
	}
}

// The record of a failed step is the one that the init writes.
func TestFailed(t *testing.T) {
	if f := Failed([8]byte{}); f != nil {
		t.Errorf("nothing failed, and yet: %v", f)
	}
	want := &StepError{Section: "after", Step: plan.Exec, Index: 2, Errno: syscall.ENOENT}
	if f := Failed([8]byte{3, 0, byte(plan.Exec), 0, 2, 0, byte(unix.ENOENT), 0}); !reflect.DeepEqual(f, want) {
		t.Errorf("%+v, want %+v", f, want)
	}
}

// A program that is not one of ours ends, and that is known; what it was given is not lost.
func TestOtherProgram(t *testing.T) {
	f, err := os.Open("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := Start(Options{Program: f, Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Spawn(t.Context(), Spawn{Job: bytes.Repeat([]byte("j"), 10), IntoCgroup: -1}); !errors.Is(err, ErrLost) {
		t.Errorf("%v, want %v", err, ErrLost)
	}
}
