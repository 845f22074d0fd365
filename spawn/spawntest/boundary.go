package spawntest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
)

// boundaryTests are about the moment when the program's process is confined
// and has executed nothing of the program's.
var boundaryTests = []test{
	{"Inspect", Inspect, testInspect},
	{"InspectRefuses", Inspect, testInspectRefuses},
	{"Notify", Notify, testNotify},
}

// status is one line of /proc/PID/status.
func status(pid int, key string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	_, line, _ := strings.Cut(string(b), "\n"+key+":\t")
	line, _, _ = strings.Cut(line, "\n")
	return line
}

func comm(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}

// allowAll is a filter that allows every call but one, which is answered with action.
func allowAll(but int, action uint32) []byte {
	var b []byte
	for _, i := range []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(but), Jf: 1},
		{Code: unix.BPF_RET, K: action},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	} {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

func testInspect(t *testing.T, s *suite) {
	b := s.open(t)
	seen := 0
	var written int
	outR, outW := pipe(t)
	p := s.stream(t, b, func(r *spawn.Request) {
		r.Stdio[1] = outW
		r.Filter = allowAll(unix.SYS_UMASK, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))
		r.Inspect = func(pid int, listener *os.File) error {
			seen = pid
			if listener != nil {
				t.Error("a listener that nobody asked for")
			}
			for key, want := range map[string]string{"NoNewPrivs": "1", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "Seccomp": "2", "Seccomp_filters": "1"} {
				if got := status(pid, key); got != want {
					t.Errorf("inspected: %s is %q, want %q", key, got, want)
				}
			}
			if name := comm(pid); name == "sh" || name == "" {
				t.Errorf("inspected: the process is %q", name)
			}
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(outR.Fd()), Events: unix.POLLIN}}, 50)
			if written = n; err != nil && !errors.Is(err, unix.EINTR) {
				t.Error(err)
			}
			return nil
		}
	}, "sh", "-c", "echo ready; read x; :")
	if written != 0 {
		t.Error("the program wrote before it was inspected")
	}
	// vfork(2) returns when execve(2) cannot fail any more, shortly before the process has its new name.
	if _, err := outR.Read(make([]byte, 16)); err != nil {
		t.Error(err)
	}
	if seen == 0 || seen == p.PID() || comm(seen) != "sh" {
		t.Errorf("inspected was %d, which is %q; the init is %d", seen, comm(seen), p.PID())
	}
	p.stdin.Close()
	p.wait()
}

func testInspectRefuses(t *testing.T, s *suite) {
	b := s.open(t)
	refusal := errors.New("not like this")
	for range 3 {
		_, err := s.try(t, bounded(t), b, func(r *spawn.Request) {
			r.Inspect = func(int, *os.File) error { return refusal }
		}, "echo", "ran")
		if !errors.Is(err, refusal) {
			t.Errorf("got %v, want what Inspect said", err)
		}
	}
	// An Inspect that kills what it sees.
	p, err := s.try(t, bounded(t), b, func(r *spawn.Request) {
		r.Inspect = func(pid int, _ *os.File) error { return unix.Kill(pid, unix.SIGKILL) }
	}, "echo", "ran")
	if errors.Is(err, spawn.ErrBoot) { // where a program that runs has said so itself
		return
	} else if err != nil {
		t.Fatal(err)
	}
	p.out = collect(p.stdout)
	if exit := p.wait(); !exit.Reported || !exit.Status.Signaled() || exit.Status.Signal() != unix.SIGKILL {
		t.Errorf("killed before it ran: %+v", exit)
	}
	if out := p.out.all(t); out != "" {
		t.Errorf("killed before it ran, it wrote %q", out)
	}
}

// notification is struct seccomp_notif of <linux/seccomp.h>, response the answer.
type notification struct {
	ID         uint64
	PID, Flags uint32
	NR         int32
	Arch       uint32
	IP         uint64
	Args       [6]uint64
}

type response struct {
	ID    uint64
	Val   int64
	Error int32
	Flags uint32
}

func testNotify(t *testing.T, s *suite) {
	const recv, send = 0xc0502100, 0xc0182101 // SECCOMP_IOCTL_NOTIF_RECV, _SEND
	b := s.open(t)
	var listener *os.File
	told := make(chan notification, 16)
	p := s.start(t, b, func(r *spawn.Request) {
		r.Filter, r.Notify = allowAll(unix.SYS_UMASK, unix.SECCOMP_RET_USER_NOTIF), true
		r.Inspect = func(_ int, l *os.File) error {
			listener = l
			return nil
		}
	}, "sh", "-c", "umask 7; read x; echo went on; exit 5")
	if listener == nil {
		t.Fatal("no listener")
	}
	defer listener.Close()
	fd := int32(listener.Fd())
	go func() { // until the last who has the filter is dead
		defer close(told)
		for {
			poll := []unix.PollFd{{Fd: fd, Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, -1); n < 1 || poll[0].Revents&unix.POLLIN == 0 {
				if err == nil || !errors.Is(err, unix.EINTR) {
					return
				}
				continue
			}
			var n notification
			if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), recv, uintptr(unsafe.Pointer(&n))); e != 0 {
				continue
			}
			told <- n
			a := response{ID: n.ID}
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), send, uintptr(unsafe.Pointer(&a)))
		}
	}()
	p.stdin.Close()
	if exit := p.wait(); exit.Status.ExitStatus() != 5 {
		t.Errorf("%+v", exit)
	}
	if out := p.out.all(t); out != "went on\n" {
		t.Errorf("%q", out)
	}
	seen := false
	for n := range told {
		if n.NR != unix.SYS_UMASK {
			t.Errorf("told was call %d", n.NR)
		}
		seen = seen || n.Args[0] == 7
	}
	if !seen {
		t.Error("umask(7) was not told")
	}
}
