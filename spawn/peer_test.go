package spawn_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// Landlock of every ABI lets a program at its own socket, and at it alone.
func TestLandlockLetsThePeerConnect(t *testing.T) {
	for abi := range 12 {
		for _, namespaced := range []bool{true, false} {
			for _, asked := range []bool{true, false} {
				r := &spawn.Request{Private: "/private", Peer: asked}
				rules, err := spawn.LandlockPolicy(r, namespaced).Compile(abi)
				if err != nil {
					t.Fatal(err)
				}
				var open []string
				for _, rule := range rules.Rules {
					if rule.Access&unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX != 0 {
						open = append(open, rule.Path)
					}
				}
				want := ""
				switch {
				case rules.HandledFS&unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX == 0: // nothing is held, all may be connected to
				case namespaced:
					want = spawn.DefaultSocket
				case asked:
					want = "/private"
				}
				if got := append(open, ""); got[0] != want || len(open) > 1 {
					t.Errorf("ABI %d, namespaces %v, asked for %v: sockets below %q, want %q", abi, namespaced, asked, open, want)
				}
			}
		}
	}
}

// Who connects between Hello and the program is dropped, and an init that connects once more is not its program.
func TestSocketBeforeTheProgram(t *testing.T) {
	h := newHost(t)
	ctx := h.bounded()
	s, id := h.spawn("ready, then connects")
	parked, err := spawn.Boot(ctx, h.Launcher, s, id)
	if err != nil {
		t.Fatal(err)
	}
	early, err := net.Dial("unix", s.Prepare[0].Strs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	parked.KeepSocket(os.Geteuid())
	p, err := parked.Finish(ctx, []plan.Step{{Kind: plan.Umask, Nums: []uint64{0}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_ = early.SetReadDeadline(time.Now().Add(deadline))
	if n, err := early.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("who came before the program: %d, %v: want to be hung up on before anybody accepts", n, err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, cred, err := p.(spawn.Peers).Accept(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("accepted %+v, %v; the init is %d", cred, err, p.PID())
	}
}
