package integration

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandboxd/sandbox"
)

const mebibyte = 1 << 20

// A hundred million random bytes through cat, unharmed.
func TestStdinStreams(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		const size = 100 * mebibyte
		in, out := sha256.New(), sha256.New()
		r := c.prepare(t, "-i", "/bin/cat")
		r.Stdin = io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), in)
		r.Stdout = out
		res := r.run(t)
		res.want(t, 0, sandbox.Exited)
		if !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
			t.Error("what came out is not what went in")
		}
		if res.report != nil && res.report.Usage.OutputBytes != size {
			t.Errorf("output_bytes: %d", res.report.Usage.OutputBytes)
		}
	})
}

func TestStdinEdges(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, flags := range []string{"", "-i"} {
			r := c.prepare(t, flags, "/bin/cat")
			r.Stdin = strings.NewReader("read")
			if res := r.run(t); res.code != 0 || res.stdout != "read" {
				t.Errorf("run %s: exit %d%s", flags, res.code, res.tail())
			}
		}
		// A program that does not read does not hold anybody up.
		r := c.prepare(t, "-i", "/bin/sh", "-c", "exit 4")
		r.Stdin = io.LimitReader(rand.NewChaCha8([32]byte{}), 10*mebibyte)
		r.run(t).want(t, 4, sandbox.Exited)
		// Nor does a caller who does not close its end.
		hold, end, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
		defer end.Close()
		r = c.prepare(t, "-i", "/bin/sh", "-c", "exit 5")
		r.Stdin = hold
		r.run(t).want(t, 5, sandbox.Exited)
		// A closed standard output is the program's problem, not a hang.
		r = c.prepare(t, "", "/usr/bin/yes")
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Stdout = write
		read.Close()
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		if res := r.wait(t); res.code == 0 {
			t.Errorf("yes into a closed pipe: exit %d%s", res.code, res.tail())
		}
	})
}

// Both streams at once, more than any pipe holds, each complete and in order.
func TestBothStreamsFlood(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		const each = 32 * mebibyte
		res := c.attack(t, "", "flood", "both", fmt.Sprint(2*each))
		res.want(t, 0, sandbox.Exited)
		line := strings.Repeat("y", 63) + "\n"
		for name, s := range map[string]string{"stdout": res.stdout, "stderr": res.stderr} {
			if len(s) < each || strings.Count(s, line) != each/64 {
				t.Errorf("%s: %d bytes, want %d", name, len(s), each)
			}
		}
	})
}

// A slow reader slows the program down and costs no memory.
func TestSlowReaderHoldsTheProgram(t *testing.T) {
	c := asRoot(t)
	r := c.prepare(t, "--timeout 60s", "/usr/bin/head", "-c", "200000000", "/dev/zero")
	r.Stdout = nil
	pipe, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil && kib > 64<<10 {
			t.Errorf("sandboxd holds %d KiB of output that nobody reads", kib)
		}
	}
	n, err := io.Copy(io.Discard, pipe)
	if err != nil || n != 200000000 {
		t.Errorf("%d bytes, %v", n, err)
	}
	r.wait(t).want(t, 0, sandbox.Exited)
}

// Signals to sandboxd are the program's.
func TestSignalsAreForwarded(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for sig, name := range map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGINT: "INT", syscall.SIGHUP: "HUP", syscall.SIGUSR1: "USR1", syscall.SIGQUIT: "QUIT"} {
			r := c.prepare(t, "--timeout 60s", "/bin/bash", "-c", "trap 'echo got "+name+"; exit 9' "+name+"; echo ready; while :; do sleep 0.05; done")
			signalWhenReady(t, r, sig)
			if res := r.wait(t); res.code != 9 || res.stdout != "ready\ngot "+name+"\n" {
				t.Errorf("%s: exit %d%s", name, res.code, res.tail())
			}
		}
		// Without a handler the program dies of it, and so its exit code says.
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			r := c.prepare(t, "--timeout 60s", "/bin/sh", "-c", "echo ready; exec sleep 1000")
			signalWhenReady(t, r, sig)
			if res := r.wait(t); res.code != 128+int(sig) {
				t.Errorf("signal %d: exit %d%s", sig, res.code, res.tail())
			}
		}
	})
}

// A program that ignores SIGTERM is not the end of asking.
func TestStubbornProgramEnds(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		r := c.prepare(t, "--timeout 100s --mount "+hostile+":/hostile", "/hostile/procs", "stubborn")
		signalWhenReady(t, r, syscall.SIGTERM)
		for range 3 {
			time.Sleep(100 * time.Millisecond)
			_ = r.Process.Signal(syscall.SIGTERM)
		}
		res := r.wait(t)
		if res.code == 0 || res.report == nil || res.report.Exit.Reason != sandbox.Cancelled && res.report.Exit.Reason != sandbox.Signaled {
			t.Errorf("exit %d%s", res.code, res.tail())
		}
	})
}

// signalWhenReady starts r and sends it sig once its program has printed a line.
func signalWhenReady(t *testing.T, r *running, sig syscall.Signal) {
	t.Helper()
	startAndAwait(t, r)
	if err := r.Process.Signal(sig); err != nil {
		t.Error(err)
	}
}

// startAndAwait starts r, and returns once its program has printed something.
func startAndAwait(t *testing.T, r *running) {
	t.Helper()
	out := &firstWrite{to: &r.out, done: make(chan struct{})}
	r.Stdout = out
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(deadline); ; {
		select {
		case <-out.done:
			return
		case <-time.After(time.Second):
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.Process.Pid))
		if gone := bytes.Contains(stat, []byte(") Z ")); gone || time.Now().After(end) {
			_ = r.Process.Kill()
			t.Fatalf("the program is not ready%s", r.waitLoosely(t).tail())
		}
	}
}

// barrier is a stdin on which nothing comes until now is called, and then the end.
type barrier struct {
	in  *os.File
	now func()
}

func hold(t *testing.T) barrier {
	t.Helper()
	in, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); end.Close() })
	return barrier{in, func() { end.Close() }}
}

// firstWrite tells of the first bytes.
type firstWrite struct {
	to   io.Writer
	done chan struct{}
	told bool
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if !w.told {
		w.told = true
		close(w.done)
	}
	return w.to.Write(p)
}
