package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/internal/hosttest"
	"sandboxd/rootfs"
)

func TestMain(m *testing.M) { hosttest.Main(m, map[string]func() error{"peer": peerProgram}) }

// peerProgram connects to its supervisor, and says what it is told and what it is.
func peerProgram() error {
	path := os.Getenv("SANDBOXD_PEER")
	if path == "" {
		path = "/run/sandboxd/peer.sock"
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, "hello")
	word, err := io.ReadAll(c)
	fmt.Println(os.Args[0], string(word), err)
	return nil
}

func TestSelfExe(t *testing.T) {
	f, err := selfExe()
	if err != nil {
		t.Fatal(err)
	}
	if g, err := selfExe(); g != f || err != nil {
		t.Errorf("made twice: %v", err)
	}
	want, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(want))+1))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d other bytes than the %d of this program, %v", len(got), len(want), err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("it can be written: %v", err)
	}
	for _, size := range []int64{0, int64(len(want)) + 1} {
		if err := f.Truncate(size); !errors.Is(err, unix.EPERM) {
			t.Errorf("its size can be changed: %v", err)
		}
	}
}

// This program, handed in by descriptor, talks to its supervisor out of every kind of sandbox, with every wall up.
func TestPeerOfTheSameProgram(t *testing.T) {
	exe, err := selfExe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	let := []rootfs.Mount{{Source: t.TempDir(), Target: "/mnt/in"}}
	for name, s := range map[string]Spec{
		"native": {}, "process": {Backend: "process"}, "host network": {Network: NetHost}, "mount": {Mounts: let},
		"inspected": {ReadBack: true, SeccompKill: true}, "clocks": {TimeNS: true}, "uid 0": {User: &User{}},
	} {
		var out bytes.Buffer
		s.Peer, s.exe, s.Argv, s.Stdout, s.Stderr = true, exe, []string{"a function"}, &out, &out
		s.Env = []string{hosttest.RoleEnv + "=peer", "GORACE=atexit_sleep_ms=0"}
		a, err := h.Start(ctx, s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, cred, err := a.accept(ctx)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			a.Cancel("it did not connect", 0)
		} else {
			b := make([]byte, 100)
			n, err := c.Read(b)
			if string(b[:n]) != "hello\n" || err != nil || cred.PID == a.PID() {
				t.Errorf("%s: pid %d said %q, %v", name, cred.PID, b[:n], err)
			}
			_, _ = c.Write([]byte("word"))
			c.Close()
		}
		r := report(t, a)
		if got := out.String(); r.Exit.Code != 0 || strings.TrimSpace(got) != "a function word <nil>" {
			t.Errorf("%s: %+v, %q", name, r.Exit, got)
		}
	}
}
