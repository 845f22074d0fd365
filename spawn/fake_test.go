package spawn_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/spawn"
	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

func TestMain(m *testing.M) {
	spawntest.Main(m, map[string]func(){"init": fakeInit, "stranger": stranger, "speaker": speaker})
}

// world is what a fake init knows: its environment.
type world struct {
	socket string
	hello  ipc.Hello
	raw    *net.UnixConn // package ipc would not send what we do
}

func newWorld() *world {
	epoch, _ := strconv.ParseUint(os.Getenv("EPOCH"), 10, 64)
	nonce, err := hex.DecodeString(os.Getenv("NONCE"))
	must(err)
	w := &world{socket: os.Getenv("SOCKET")}
	w.hello = ipc.Hello{Proto: ipc.Proto, Actor: "actor", Epoch: epoch, Nonce: [16]byte(nonce), PID: os.Getpid()}
	return w
}

// must ends a fake that cannot lie as it was told, which shows in the exit status.
func must(err error) {
	if err != nil {
		os.Exit(99)
	}
}

func forever() { time.Sleep(time.Hour) }

// dial connects without package ipc.
func (w *world) dial() {
	raw, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: w.socket, Net: "unix"})
	must(err)
	w.raw = raw
}

// frame sends body, of which the length says so many bytes.
func (w *world) frame(length uint32, body []byte, fds ...int) {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := w.raw.WriteMsgUnix(append(binary.LittleEndian.AppendUint32(nil, length), body...), oob, nil)
	must(err)
}

func (w *world) send(m interface{ AppendBinary([]byte) ([]byte, error) }, fds ...int) {
	b, err := m.AppendBinary(nil)
	must(err)
	w.frame(uint32(len(b)), b, fds...)
}

// welcome says the right Hello and reads the answer.
func (w *world) welcome() {
	w.dial()
	w.send(&w.hello)
	var head [4]byte
	_, err := w.raw.Read(head[:])
	must(err)
	rest := make([]byte, binary.LittleEndian.Uint32(head[:]))
	_, err = w.raw.Read(rest)
	must(err)
}

func (w *world) ready() {
	w.welcome()
	w.send(&ipc.Ready{PID: 2})
}

// null are n descriptors of nothing.
func null(n int) (fds []int) {
	for range n {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
		must(err)
		fds = append(fds, fd)
	}
	return fds
}

// other runs the stranger: another process that says what we should.
func other(n int) {
	for range n {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), spawntest.RoleEnv+"=stranger")
		must(cmd.Run())
	}
}

func stranger() {
	w := newWorld()
	w.dial()
	b, err := w.hello.AppendBinary(nil)
	must(err)
	_, _ = w.raw.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...))
	_, _ = w.raw.Read(make([]byte, 1)) // until it is closed, which may be before we said a word
}

// speaker is a child of the fake init that speaks on its connection, and says that it is its sibling.
func speaker() {
	c, err := net.FileConn(os.NewFile(3, "conn"))
	must(err)
	w := &world{raw: c.(*net.UnixConn)}
	sibling, err := strconv.Atoi(os.Getenv("SIBLING"))
	must(err)
	w.send(&ipc.Confined{PID: sibling})
	_, err = w.raw.Read(make([]byte, 6))
	must(err)
	w.send(&ipc.Ready{PID: sibling})
	forever()
}

// lies are what a fake init does, by name.
var lies = map[string]func(*world){
	"exits":           func(*world) { os.Exit(3) },
	"kills itself":    func(*world) { must(unix.Kill(os.Getpid(), unix.SIGKILL)) },
	"never connects":  func(*world) { forever() },
	"says nothing":    func(w *world) { w.dial(); forever() },
	"half a length":   func(w *world) { w.dial(); _, _ = w.raw.Write([]byte{40, 0}); forever() },
	"half a hello":    func(w *world) { w.dial(); w.frame(60, []byte{0x96, 1}); forever() },
	"half, then exit": func(w *world) { w.dial(); w.frame(60, []byte{0x96, 1}); os.Exit(3) },
	"hangs up":        func(w *world) { w.dial(); w.raw.Close(); forever() },
	"huge length":     func(w *world) { w.dial(); w.frame(0xffffffff, nil); forever() },
	"above the cap":   func(w *world) { w.dial(); w.frame(ipc.HandshakeCap+1, make([]byte, ipc.HandshakeCap+1)); forever() },
	"no length":       func(w *world) { w.dial(); w.frame(0, nil); forever() },
	"garbage":         func(w *world) { w.dial(); w.frame(5, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}); forever() },
	"wrong protocol":  func(w *world) { w.hello.Proto++; w.dial(); w.send(&w.hello); forever() },
	"wrong actor":     func(w *world) { w.hello.Actor += "x"; w.dial(); w.send(&w.hello); forever() },
	"wrong epoch":     func(w *world) { w.hello.Epoch++; w.dial(); w.send(&w.hello); forever() },
	"wrong nonce":     func(w *world) { w.hello.Nonce[15] ^= 1; w.dial(); w.send(&w.hello); forever() },
	"ready too early": func(w *world) { w.dial(); w.send(&ipc.Ready{PID: 2}); forever() },
	"failed at once":  func(w *world) { w.dial(); w.send(&ipc.Failed{Step: 1, Index: 1, Errno: 1}); forever() },
	"exit at once":    func(w *world) { w.dial(); w.send(&ipc.Exit{}); forever() },
	"hello with 250":  func(w *world) { w.dial(); w.send(&w.hello, null(250)...); forever() },
	"strangers only":  func(*world) { other(ipc.MaxStrangers + 1); forever() },
	"stranger, right": func(w *world) { other(3); w.ready(); forever() },

	"deaf":                 func(w *world) { w.dial(); w.send(&w.hello); forever() },
	"welcomed, then exits": func(w *world) { w.welcome(); os.Exit(4) },
	"hello twice":          func(w *world) { w.welcome(); w.send(&w.hello); forever() },
	"exit before ready":    func(w *world) { w.welcome(); w.send(&ipc.Exit{}); forever() },
	"unknown type":         func(w *world) { w.welcome(); w.frame(2, []byte{0x91, 99}); forever() },
	"absurd failure":       func(w *world) { w.welcome(); w.send(&ipc.Failed{Step: 65535, Index: 65535, Errno: 65535}); forever() },
	"failure of nothing":   func(w *world) { w.welcome(); w.send(&ipc.Failed{}); forever() },
	"failure elsewhere": func(w *world) {
		w.welcome()
		w.send(&ipc.Failed{Step: uint16(plan.Chdir), Index: 0, Errno: 2})
		forever()
	},
	"failure with a file":  func(w *world) { w.welcome(); w.send(&ipc.Failed{Errno: 1}, null(1)...); forever() },
	"ready with a file":    func(w *world) { w.welcome(); w.send(&ipc.Ready{PID: 2}, null(1)...); forever() },
	"ready with two files": func(w *world) { w.welcome(); w.send(&ipc.Ready{PID: 2}, null(2)...); forever() },
	"ready with 250 files": func(w *world) { w.welcome(); w.send(&ipc.Ready{PID: 2}, null(250)...); forever() },
	"confined, uninvited":  func(w *world) { w.welcome(); w.send(&ipc.Confined{PID: 2}); forever() },
	"confined as itself":   func(w *world) { w.welcome(); w.send(&ipc.Confined{PID: os.Getpid()}, null(1)...); forever() },
	"confined as nobody":   func(w *world) { w.welcome(); w.send(&ipc.Confined{PID: 4000000}); forever() },
	"confined as another": func(w *world) {
		w.welcome()
		sibling := exec.Command("/bin/sleep", "3600")
		must(sibling.Start())
		w.share("/proc/self/exe", spawntest.RoleEnv+"=speaker", fmt.Sprint("SIBLING=", sibling.Process.Pid))
		forever()
	},
	"above the larger cap": func(w *world) { w.welcome(); w.frame(ipc.DefaultCap+1, make([]byte, 1000)); forever() },

	"ready":                 func(w *world) { w.ready(); forever() },
	"ready, then connects":  func(w *world) { w.ready(); w.dial(); forever() },
	"ready, then exits":     func(w *world) { w.ready(); os.Exit(5) },
	"reports, then exits":   func(w *world) { w.ready(); w.send(&ipc.Exit{Status: 7 << 8}); os.Exit(9) },
	"reports garbage":       func(w *world) { w.ready(); w.frame(3, []byte{0x92, 7, 7}); os.Exit(9) },
	"reports half":          func(w *world) { w.ready(); w.frame(7, []byte{0x92}); os.Exit(9) },
	"reports with files":    func(w *world) { w.ready(); w.send(&ipc.Exit{Status: 7 << 8}, null(250)...); os.Exit(9) },
	"leaves its connection": func(w *world) { w.ready(); w.share("/bin/sleep"); os.Exit(9) },
	"floods": func(w *world) {
		w.ready()
		_ = w.raw.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for junk := make([]byte, 1<<16); ; {
			if _, err := w.raw.Write(junk); err != nil {
				os.Exit(9)
			}
		}
	},
}

// share gives the connection to a process that may outlive us.
func (w *world) share(program string, env ...string) {
	f, err := w.raw.File()
	must(err)
	cmd := exec.Command(program, "3600")
	cmd.ExtraFiles, cmd.Env = []*os.File{f}, append(os.Environ(), env...)
	must(cmd.Start())
}

func fakeInit() {
	lie, ok := lies[os.Getenv("LIE")]
	if !ok {
		os.Exit(98)
	}
	lie(newWorld())
}

// host is a launcher whose children become fake inits.
type host struct {
	t *testing.T
	*launcher.Launcher
	dir string
	n   uint64
}

// newHost is followed by the leak check.
func newHost(t *testing.T) *host {
	t.Helper()
	o := launcher.Options{Namespaces: launcher.Isolated}
	if uid := os.Geteuid(); uid != 0 {
		o.Namespaces |= unix.CLONE_NEWUSER
		o.UIDs = []launcher.IDMap{{Inside: 0, Outside: uid, Count: 1}}
		o.GIDs = []launcher.IDMap{{Inside: 0, Outside: os.Getegid(), Count: 1}}
	}
	h := &host{t: t}
	for range 2 { // the first makes what a process keeps
		l, err := launcher.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		if h.Launcher == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			spawntest.Watch(t)
		}
		h.Launcher = l
	}
	h.dir = spawntest.Dir(t)
	t.Cleanup(func() { h.Close() }) // before the directory goes, in which what it forks may still make a socket
	return h
}

// spawn describes a child that tells this lie.
func (h *host) spawn(lie string) (launcher.Spawn, spawn.Identity) {
	h.t.Helper()
	h.n++
	id := spawn.NewIdentity("actor", h.n)
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	nonce := id.Nonce()
	socket := fmt.Sprintf("%s/s%d", h.dir, h.n)
	env := ""
	for _, kv := range []string{
		spawntest.RoleEnv + "=init", "LIE=" + lie, "SOCKET=" + socket, "NONCE=" + hex.EncodeToString(nonce[:]), fmt.Sprint("EPOCH=", h.n), "GORACE=atexit_sleep_ms=0",
	} {
		env += kv + "\x00"
	}
	return launcher.Spawn{
		IntoCgroup: -1,
		Prepare:    []plan.Step{{Kind: plan.Listen, Nums: []uint64{plan.SlotListen, plan.NoSlot}, Strs: []string{socket}}},
		Before: []plan.Step{
			{Kind: plan.Sync},
			{Kind: plan.Exec, Nums: []uint64{1, 6}, Strs: []string{self, "fake\x00", env, ""}},
		},
	}, id
}
