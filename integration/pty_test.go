package integration

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox"
)

// terminal is a pseudoterminal with sandboxd at its other end, and everything
// that it has shown so far.
type terminal struct {
	*running
	master *os.File
	mu     sync.Mutex
	shown  strings.Builder
	seen   int // of shown, by expect
	ended  chan struct{}
}

// onTerminal starts sandboxd run -i -t on a terminal of 40 by 100.
func (c *caller) onTerminal(t *testing.T, flags string, argv ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var slave int
	if cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
		if slave = int(r); errno != 0 {
			err = errno
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	tty := os.NewFile(uintptr(slave), "tty")
	defer tty.Close()
	if err := tty.Chown(c.uid, c.uid); err != nil {
		t.Fatal(err)
	}
	term := &terminal{running: c.prepare(t, "-i -t "+flags, argv...), master: master, ended: make(chan struct{})}
	term.resize(t, 40, 100)
	term.Stdin, term.Stdout, term.Stderr = tty, tty, tty
	term.SysProcAttr.Setpgid, term.SysProcAttr.Setsid, term.SysProcAttr.Setctty = false, true, true
	if err := term.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.ended)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.shown.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // EIO: nobody has the other end any more
			}
		}
	}()
	return term
}

func (term *terminal) resize(t *testing.T, rows, cols uint16) {
	t.Helper()
	raw, err := term.master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.String()
}

// expect waits until the terminal shows s after what was expected before.
func (term *terminal) expect(t *testing.T, s string) {
	t.Helper()
	for end := time.Now().Add(deadline / 4); ; time.Sleep(5 * time.Millisecond) {
		text := term.text()
		if i := strings.Index(text[term.seen:], s); i >= 0 {
			term.seen += i + len(s)
			return
		}
		select {
		case <-term.ended:
			if !strings.Contains(term.text()[term.seen:], s) {
				t.Fatalf("the terminal closed without %q: %q", s, term.text())
			}
		default:
		}
		if time.Now().After(end) {
			_ = syscall.Kill(term.Process.Pid, syscall.SIGQUIT)
			time.Sleep(time.Second)
			_ = term.Process.Kill()
			_ = term.Wait()
			t.Fatalf("the terminal never showed %q: %q", s, term.text())
		}
	}
}

func (term *terminal) say(t *testing.T, s string) {
	t.Helper()
	if _, err := term.master.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func (term *terminal) want(t *testing.T, code int, reason sandbox.Reason) {
	t.Helper()
	res := term.wait(t)
	res.stdout = term.text()
	res.want(t, code, reason)
}

func TestTerminal(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "", "/bin/sh", "-c", "tty; stty size; echo $TERM; stty -a | tr ' ' '\\n' | grep -x echo; read x; echo got $x; exit 7")
		term.expect(t, "/dev/pts/")
		term.expect(t, "40 100")
		term.expect(t, "xterm")
		term.expect(t, "echo")
		term.say(t, "word\r")
		term.expect(t, "got word\r\n")
		term.want(t, 7, sandbox.Exited)
	})
}

func TestTerminalIsRestored(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "", "/bin/sh", "-c", "echo ready; read x")
		// The same terminal before and after, as the caller's shell sees it.
		flags := func() (f uint32) {
			raw, err := term.master.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if cerr := raw.Control(func(fd uintptr) {
				var tio *unix.Termios
				if tio, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
					f = tio.Lflag
				}
			}); cerr != nil || err != nil {
				t.Fatal(cerr, err)
			}
			return f
		}
		term.expect(t, "ready")
		if flags()&unix.ECHO != 0 {
			t.Error("the caller's terminal echoes beside the program's")
		}
		term.say(t, "\r")
		term.want(t, 0, sandbox.Exited)
		if f := flags(); f&(unix.ECHO|unix.ICANON|unix.ISIG) != unix.ECHO|unix.ICANON|unix.ISIG {
			t.Errorf("the caller's terminal is left in raw mode: %#x", f)
		}
	})
}

func TestTerminalResize(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "--timeout 60s", "/bin/bash", "-c", "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done")
		term.expect(t, "ready")
		term.resize(t, 25, 77)
		term.expect(t, "25 77")
		term.want(t, 3, sandbox.Exited)
	})
}

func TestTerminalControlC(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "--timeout 60s", "/bin/bash", "-c", "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done")
		term.expect(t, "ready")
		term.say(t, "\x03")
		term.expect(t, "caught")
		term.want(t, 4, sandbox.Exited)

		term = c.onTerminal(t, "--timeout 60s", "/bin/sh", "-c", "echo ready; exec sleep 1000")
		term.expect(t, "ready")
		term.say(t, "\x03")
		term.want(t, 130, sandbox.Signaled)
	})
}

// An interactive shell with jobs, as a person uses it.
func TestTerminalJobControl(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "--timeout 60s --env PS1=prompt>", "/bin/bash", "--norc", "-i")
		term.expect(t, "prompt>")
		if strings.Contains(term.text(), "no job control") {
			t.Errorf("bash has no job control: %q", term.text())
		}
		term.say(t, "sleep 100 & jobs\r")
		term.expect(t, "Running")
		term.say(t, "kill %1; wait %1; echo status $?\r")
		term.expect(t, "status 143")
		term.say(t, "sleep 200\r")
		time.Sleep(200 * time.Millisecond)
		term.say(t, "\x1a")
		term.expect(t, "Stopped")
		term.say(t, "bg\rkill %1\rcat\r")
		time.Sleep(200 * time.Millisecond)
		term.say(t, "\x04")
		term.say(t, "exit 6\r")
		term.want(t, 6, sandbox.Exited)
	})
}

// The terminal of the caller goes away: so does everything else.
func TestTerminalHangup(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "--timeout 100s", "/bin/sh", "-c", "echo ready; exec sleep 1000")
		term.expect(t, "ready")
		term.master.Close()
		if res := term.wait(t); res.code == 0 {
			t.Errorf("exit %d%s", res.code, res.tail())
		}
	})
}

// What the program writes to its terminal goes into no other.
func TestTerminalFlood(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		term := c.onTerminal(t, "--output-limit 256k --timeout 60s", "/usr/bin/yes", strings.Repeat("y", 70))
		res := term.wait(t)
		<-term.ended
		if res.report == nil || res.report.Exit.Reason != sandbox.Output {
			t.Errorf("exit %d%s", res.code, res.tail())
		}
		if n := len(term.text()); n < 256<<10 || n > 257<<10 {
			t.Errorf("%d bytes were shown of 256 KiB", n)
		}
	})
}

func TestTerminalNeedsOne(t *testing.T) {
	c := asRoot(t)
	c.run(t, "-i -t", "/bin/true").refused(t, "terminal")
	res := c.run(t, "", "/bin/sh", "-c", "tty; test -t 1 || echo none")
	if res.stdout != "not a tty\nnone\n" {
		t.Errorf("without -t: %q", res.stdout)
	}
	// /dev/tty of the caller is not the program's, even if the caller has one.
	if res := c.run(t, "", "/bin/sh", "-c", "echo x > /dev/tty"); res.code == 0 {
		t.Errorf("/dev/tty opens: exit %d", res.code)
	}
}
