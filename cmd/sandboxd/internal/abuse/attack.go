package abuse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AttackArg makes `sandboxd selftest` the attacker: see Serve.
const AttackArg = "-attack"

// bareEnv is set where the attacker runs outside of a sandbox, for a control.
const bareEnv = "SANDBOXD_SELFTEST_BARE"

// word is an outcome that is no errno.
type word string

func (w word) Error() string { return string(w) }

// Serve runs the attack of a case and prints its outcome: what actors of the suite run.
func Serve(args []string) int {
	debug.SetGCPercent(-1) // an attacker lives for milliseconds; some count their own threads
	if os.Getenv(bareEnv) != "" {
		// In a mount namespace of its own, whose changes stay there.
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			fmt.Println("the control cannot keep its mounts to itself:", err)
			return 1
		}
	}
	role, args := args[0], args[1:]
	if role == "wait" { // a process to be attacked
		if len(args) > 0 { // with a file at home
			fmt.Println(os.Getenv("HOME"))
			if err := os.WriteFile(os.Getenv("HOME")+"/"+args[0], []byte("mine"), 0o666); err != nil {
				return 1
			}
		}
		fmt.Println("ready")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return 0
	}
	switch role {
	case "started":
		return 0
	case "victim":
		return victim()
	}
	all := Cases()
	i := slices.IndexFunc(all, func(c Case) bool { return c.ID == role })
	if i < 0 || all[i].Attack == nil {
		fmt.Println("no such attack:", role)
		return 1
	}
	err := all[i].Attack(args)
	fmt.Println(outcome(err))
	if _, bomb := errors.AsType[*defused](err); bomb {
		return 1 // a failure, so that the report says which limit it was
	}
	return 0
}

// defused is a bomb that a limit stopped.
type defused struct{ error }

func (d *defused) Unwrap() error { return d.error }

// outcome is what happened in one word.
func outcome(err error) string {
	if err == nil {
		return Through
	}
	if w, ok := errors.AsType[word](err); ok {
		return string(w)
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		if name := unix.ErrnoName(e); name != "" {
			return name
		}
	}
	return "failed: " + strings.ReplaceAll(err.Error(), "\n", " ")
}

// Operands of raw calls live here: the collector moves nothing of it.
var (
	operands [64 << 10]byte
	operand  int
)

// raw puts bytes among the operands, and a NUL behind.
func raw(b string) uintptr {
	if operand+len(b)+1 > len(operands) {
		operand = 0 // those of an earlier Cases
	}
	at := operand
	copy(operands[at:], b)
	operands[at+len(b)] = 0
	operand = (at + len(b) + 1 + 7) &^ 7
	return uintptr(unsafe.Pointer(&operands[at]))
}

// words puts 32-bit numbers among the operands.
func words(v ...uint32) uintptr {
	return raw(string(unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))))
}

// inChild makes one system call in a child process that has a single thread,
// as some calls demand, and no part of the runtime that could get in the way.
//
//go:norace
func inChild(nr uintptr, a [6]uintptr) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	if pid == 0 {
		_, _, e := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		for {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(e), 0, 0)
		}
	}
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(int(pid), &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the attack: %w", err)
		}
		break
	}
	switch {
	case ws.Signaled():
		return word(unix.SignalName(ws.Signal()))
	case ws.ExitStatus() != 0:
		return syscall.Errno(ws.ExitStatus())
	}
	return nil
}

// call is a case of one system call, whose arguments are such that the kernel,
// and not a bad pointer, gives the answer, and such that it does no harm outside.
func call(id, says, want string, nr uintptr, args ...uintptr) Case {
	return Case{ID: id, Says: says, Want: want, Attack: func([]string) error {
		var a [6]uintptr
		copy(a[:], args)
		return inChild(nr, a)
	}}
}

// from adds where a case is known from.
func (c Case) from(ref string) Case {
	c.Ref = ref
	return c
}

// noControl says why the case has no control.
func (c Case) noControl(why string) Case {
	c.NoControl = why
	return c
}

// anyOf tries each, and is nil if one got through; else it is all that stopped them.
func anyOf(list []string, try func(string) error) error {
	var stopped []string
	for _, l := range list {
		err := try(l)
		if err == nil {
			return nil
		}
		if o := outcome(err); !slices.Contains(stopped, o) {
			stopped = append(stopped, o)
		}
	}
	slices.Sort(stopped)
	return word(strings.Join(stopped, ","))
}

// opens opens a file and does nothing with it.
func opens(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// reads reads a byte: some files open for anyone and then say nothing.
func reads(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		return word("empty")
	}
	return err
}
