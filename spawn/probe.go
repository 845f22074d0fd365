package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/namespaces"
	"sandboxd/namespaces/landlock"
	"sandboxd/namespaces/seccomp"
)

// probeTimeout bounds one probe; a host that needs longer has another trouble.
const probeTimeout = 10 * time.Second

// ProbeRequest is the tiny actor of a Probe. As root it has host ids that no
// lease reaches (package sandbox hands out those before), nor any other probe
// of this process: they run beside each other, and actors never share ids. An
// ordinary user's has none; a backend that takes some sets them.
func ProbeRequest() *Request {
	r := &Request{ID: "probe", Dir: "/", UID: 1000, GID: 1000, Hostname: "probe", Scratch: Scratch{Bytes: 1 << 20, Inodes: 64}}
	if namespaces.Privileged() {
		id := 1879048192 + 4096*32768 + 2*int(probes.Add(1)%1024)
		r.Host = &HostIDs{InitUID: id, InitGID: id, UID: id + 1, GID: id + 1}
	}
	return r
}

var probes atomic.Int64

// Try spawns a tiny actor with b as r says, waits for its handshake, kills it,
// and sees it gone: a host can do what it has just done. r needs no program,
// filters or streams.
func Try(ctx context.Context, b Backend, r *Request) error {
	return TryFor(ctx, probeTimeout, b, r)
}

// TryFor is Try with a bound of the backend's own.
func TryFor(ctx context.Context, bound time.Duration, b Backend, r *Request) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	policy, err := seccomp.Default(seccomp.Native(), seccomp.Options{})
	if err != nil {
		return err
	}
	filter, err := policy.Compile()
	if err != nil {
		return err
	}
	_, noLandlock := landlock.ABI()
	r.Argv, r.Env, r.Stdio = []string{"/bin/sleep", "60"}, []string{"PATH=/bin:/usr/bin"}, [3]*os.File{null, null, null}
	r.Filter, r.Landlock = filter.Bytes(), noLandlock == nil
	p, err := b.Start(ctx, r)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Kill(); err != nil {
		return err
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	if !exit.Status.Signaled() || exit.Status.Signal() != unix.SIGKILL {
		return fmt.Errorf("killed, but ended with status %#x", uint32(exit.Status))
	}
	return nil
}

// Namespaced is the answer of a backend that takes namespaces: all of it where
// an actor with everything on could be tried, else none, for the host's reason.
func Namespaced(tried error) Features {
	f := Features{Landlock: LandlockGate()}
	for _, name := range []Feature{
		UserNS, PIDNS, MountNS, NetNS, UTSNS, IPCNS, CgroupNS, PivotRoot, ReadOnlyRoot,
		NoNewPrivs, NoCapabilities, Filter, DiskLimit, KillWhole, TwoIDs, TimeNS, Terminal, PeerSocket,
	} {
		f[name] = nil
		if tried != nil {
			observed, remedy := namespaces.Diagnose("", tried)
			f[name] = &Gate{Feature: name, Observed: observed, Remedy: remedy}
		}
	}
	return f
}

// LandlockGate is the answer of every backend whose second wall is Landlock.
func LandlockGate() error {
	_, err := landlock.ABI()
	if err == nil {
		return nil
	}
	g := &Gate{Feature: Landlock, Observed: err.Error(), Remedy: "boot a kernel of 5.13 or later with landlock in its lsm= list"}
	if !errors.Is(err, landlock.ErrUnsupported) {
		g.Remedy = ""
	}
	return g
}
