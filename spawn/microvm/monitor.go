package microvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/spawn"
	"sandboxd/vm"
	"sandboxd/vm/guest"
)

// modules of a guest's kernel: ports, what is shared, and layers on top of it.
var modules = []string{"virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"}

// monitorFailed is the exit code of a monitor that has said why on its connection.
const monitorFailed = 125

// Monitor is the program of the native actor that a machine is in: it starts
// QEMU, moves bytes between the guest and its own streams, and ends as the
// guest's program did. It returns, with an exit code, only where it could not.
func Monitor() int {
	signal.Ignore(syscall.SIGPIPE) // who reads our output may go away
	raw, err := ipc.Dial(spawn.DefaultSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm monitor: this is what the backend microvm starts, in a sandbox:", err)
		return monitorFailed
	}
	m := &monitor{host: &guest.Conn{RW: raw}}
	if err := m.run(); err != nil {
		// The supervisor takes one word; an orderly end never comes here.
		if m.started {
			_ = m.host.Send(frameLost, []byte(cut(err.Error())))
		} else {
			_ = m.host.SendJSON(frameFailed, failed{Text: cut(err.Error())})
		}
	}
	return monitorFailed
}

type monitor struct {
	host    *guest.Conn
	console tail
	started bool
	outputs sync.WaitGroup
}

func (m *monitor) run() error {
	exe, err := memory("exe")
	if err != nil {
		return err
	}
	j, err := receiveJob(m.host, exe)
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	initrd, err := pack(j, exe)
	exe.Close()
	if err != nil {
		return err
	}
	machine, err := vm.Start(j.config(initrd, &m.console))
	initrd.Close()
	if err != nil {
		return err
	}
	defer machine.Kill()
	port := func(i int) *guest.Conn { return &guest.Conn{RW: machine.Ports[i]} }
	control, in := port(0), port(1)
	go func() {
		for {
			k, body, err := m.host.Receive()
			if err != nil {
				return
			}
			if k == frameSignal && len(body) == 1 || k == frameProceed {
				_ = control.Send(k, body)
			}
		}
	}()
	for i, to := range []*os.File{os.Stdout, os.Stderr} {
		m.outputs.Go(func() { drain(port(2+i), to) })
	}
	if j.Run.Peer {
		go func() { _ = forward(port(4), dialSupervisor) }() // it ends with the port, or with a guest that breaks the rules
	}
	for {
		k, body, err := control.Receive()
		if err != nil {
			return m.lost(machine, err)
		}
		switch k {
		case frameBooted:
			err = m.host.Send(frameBooted, nil)
		case frameStarted:
			m.started = true
			go feed(in)
			err = m.host.Send(frameStarted, nil)
		case frameFailed:
			_ = m.host.Send(frameFailed, body)
			machine.Kill()
			os.Exit(monitorFailed)
		case frameExited:
			var e exited
			if err := json.Unmarshal(body, &e); err != nil {
				return fmt.Errorf("the guest's last word: %w", err)
			}
			m.outputs.Wait()
			machine.Kill()
			if err := m.host.SendJSON(frameFinal, e.Facts); err != nil {
				return err
			}
			return die(syscall.WaitStatus(e.Status))
		default:
			return fmt.Errorf("the guest sent a frame %q", k)
		}
		if err != nil {
			return err
		}
	}
}

// lost is why a machine has ended before it said so.
func (m *monitor) lost(machine *vm.Machine, err error) error {
	machine.Kill()
	qemu := machine.Wait()
	switch {
	case strings.Contains(m.console.String(), "Kernel panic"):
		err = errors.New("the guest's kernel panicked")
	case qemu != nil && !strings.Contains(qemu.Error(), "signal: killed"):
		err = qemu
	case errors.Is(err, io.EOF):
		err = errors.New("the machine ended without a word")
	}
	if said := word([]byte(m.console.String())); said != "" {
		return fmt.Errorf("%w; its console ends with: %s", err, said)
	}
	return err
}

// die ends this process as status says that the guest's program ended.
func die(status syscall.WaitStatus) error {
	if status.Exited() {
		os.Exit(status.ExitStatus())
	}
	s := status.Signal()
	if !status.Signaled() || s <= 0 || s > 64 {
		return fmt.Errorf("the guest says that its program ended with status %#x, which is none", uint32(status))
	}
	// The default action, past Go's own handlers: a struct sigaction of zeros.
	var action [4]uint64
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); e != 0 && s != syscall.SIGKILL {
		return fmt.Errorf("signal %d: %w", s, e)
	}
	var all unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
	_ = unix.Kill(os.Getpid(), s)
	select {} // it comes at once
}

// pack makes the initramfs, in memory.
func pack(j *job, exe *os.File) (*os.File, error) {
	f, err := memory("initramfs")
	if err != nil {
		return nil, err
	}
	if err := packInto(f, j, exe); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// memory is an empty file in memory.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// drain writes a stream of the guest's to one of ours.
func drain(c *guest.Conn, to *os.File) {
	unread := false
	for {
		k, body, err := c.Receive()
		if err != nil || k != frameOut || len(body) == 0 {
			to.Close()
			return
		}
		if unread {
			continue
		}
		if _, err := to.Write(body); err != nil { // the reader is gone: so the program is told
			unread = true
			to.Close()
			_ = c.Send(frameOut, nil)
		}
	}
}

// feed sends our input to the guest, until either has enough.
func feed(c *guest.Conn) {
	in := os.Stdin
	if unix.SetNonblock(0, true) == nil { // so that a close ends the read; it is ours alone
		in = os.NewFile(0, "stdin")
	}
	go func() {
		_, _, _ = c.Receive() // nobody reads it there any more, or the machine is gone
		in.Close()
	}()
	_ = c.SendAll(frameIn, in)
	_ = c.Send(frameIn, nil)
}

func dialSupervisor() (*ipc.Conn, error) { return ipc.Dial(spawn.DefaultSocket) }

// forward carries connections of the guest's program to where dial leads.
func forward(port *guest.Conn, dial func() (*ipc.Conn, error)) error {
	r := &relay{port: port}
	return r.receive(func(number byte) error {
		c, err := dial()
		if err != nil {
			return port.Send(frameData, []byte{number})
		}
		l, ok := r.add(number, c, func() {})
		if !ok {
			c.Close()
			return fmt.Errorf("a second connection %d", number)
		}
		go r.send(number, l)
		return nil
	})
}

// tail keeps the last bytes written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - most; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
