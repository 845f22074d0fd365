package launcher_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

// supervise is the role of a supervisor that will be killed.
func supervise() {
	l, err := launcher.Start(options())
	for range 3 {
		if err == nil {
			_, err = l.Spawn(context.Background(), parked(os.Getenv("TMPDIR")))
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("launcher", l.PID())
	_, _ = os.Stdin.Read(make([]byte, 1)) // nobody writes
}

// supervisor starts one and returns its launcher's pid.
func supervisor(t *testing.T) (*exec.Cmd, int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), spawntest.RoleEnv+"=supervisor", "TMPDIR="+spawntest.Dir(t))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var pid int
	if _, scan := fmt.Sscanf(line, "launcher %d", &pid); err != nil || scan != nil {
		_ = cmd.Process.Kill()
		t.Fatalf("the supervisor says %q: %v", line, errors.Join(err, scan, cmd.Wait()))
	}
	if n := len(spawntest.Descendants()); n < 5 {
		t.Errorf("%d processes are there, want a supervisor, a launcher and 3 children", n)
	}
	return cmd, pid
}

func TestSupervisorKilled(t *testing.T) {
	spawntest.Watch(t)
	for range spawntest.Rounds(5, 100) {
		cmd, _ := supervisor(t)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		gone(t)
	}
}

// A launcher that is stopped does not see EOF; the death of its parent reaches it all the same.
func TestStoppedLauncherDiesWithSupervisor(t *testing.T) {
	spawntest.Watch(t)
	cmd, pid := supervisor(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gone(t)
}

// blocked is a request that no one will ever answer.
func blocked(t *testing.T, l *launcher.Launcher) <-chan error {
	t.Helper()
	s := parked(spawntest.Dir(t))
	result := make(chan error, 1)
	go func() {
		_, err := l.Run(append(s.Prepare, s.Before[1:]...))
		result <- err
	}()
	for {
		if waiting, _ := l.Count(); waiting > 0 {
			return result
		}
		runtime.Gosched()
	}
}

func lost(t *testing.T, what string, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		if !errors.Is(err, launcher.ErrLost) {
			t.Errorf("%s: %v, want ErrLost", what, err)
		}
	case <-time.After(deadline):
		t.Fatalf("%s: no answer", what)
	}
}

// ended checks that a launcher that is gone is gone for everyone.
func ended(t *testing.T, l *launcher.Launcher, children []*launcher.Child, pending ...<-chan error) {
	t.Helper()
	done(t, l)
	for _, p := range pending {
		lost(t, "a request that was under way", p)
	}
	for _, c := range children {
		if e, err := exit(t, c); !errors.Is(err, launcher.ErrLost) {
			t.Errorf("a child of a lost launcher: %+v, %v", e, err)
		}
		release(t, c)
	}
	if _, err := l.Run(nil); !errors.Is(err, launcher.ErrLost) {
		t.Errorf("run: %v", err)
	}
	if _, err := l.Spawn(context.Background(), launcher.Spawn{IntoCgroup: -1}); !errors.Is(err, launcher.ErrLost) {
		t.Errorf("spawn: %v", err)
	}
	if waiting, live := l.Count(); waiting+live != 0 {
		t.Errorf("%d requests wait, %d children live", waiting, live)
	}
	gone(t)
}

func TestLauncherKilled(t *testing.T) {
	l := watched(t)
	var children []*launcher.Child
	for range 3 {
		children = append(children, spawned(t, l, parked(spawntest.Dir(t))))
	}
	pending := blocked(t, l)
	if err := unix.Kill(l.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, l, children, pending)
}

func TestClose(t *testing.T) {
	l := watched(t)
	children := []*launcher.Child{spawned(t, l, parked(spawntest.Dir(t))), spawned(t, l, parked(spawntest.Dir(t)))}
	pending := blocked(t, l)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	ended(t, l, children, pending)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseStopped(t *testing.T) {
	l := watched(t)
	children := []*launcher.Child{spawned(t, l, parked(spawntest.Dir(t)))}
	if err := unix.Kill(l.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	ended(t, l, children)
}

// Close may come at any time of a spawn.
func TestCloseDuringSpawns(t *testing.T) {
	watched(t)
	for i := range spawntest.Rounds(10, 300) {
		l := start(t, options())
		dir := spawntest.Dir(t)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					c, err := l.Spawn(context.Background(), parked(dir))
					if err != nil {
						if !errors.Is(err, launcher.ErrLost) {
							t.Error(err)
						}
						return
					}
					_ = unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0)
					<-c.Exited()
					release(t, c)
				}
			})
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}

// PR_SET_PDEATHSIG means the thread that started the launcher, which may well end.
func TestStartingThreadEnds(t *testing.T) {
	if err := watched(t).Close(); err != nil {
		t.Fatal(err)
	}
	started := make(chan *launcher.Launcher)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		l, err := launcher.Start(options())
		if err != nil {
			t.Error(err)
		}
		started <- l
	}()
	l := <-started
	if l == nil {
		return
	}
	defer l.Close()
	for range 50 {
		over := make(chan bool)
		go func() { // more threads that end
			runtime.LockOSThread()
			over <- true
		}()
		<-over
	}
	c := spawned(t, l, parked(spawntest.Dir(t)))
	if _, err := l.Run(nil); err != nil {
		t.Error(err)
	}
	if pid := pidOf(t, c.Pidfd); pid <= 0 {
		t.Errorf("the child has pid %d", pid)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, l, []*launcher.Child{c})
}

// A caller may ignore signals; neither the launcher nor its children do.
func TestSignalDispositions(t *testing.T) {
	spawntest.Ignore(t, unix.SIGCHLD, unix.SIGPIPE, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	l := watched(t)
	c := spawned(t, l, parked(spawntest.Dir(t)))
	for _, pid := range []int{l.PID(), pidOf(t, c.Pidfd)} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"SigIgn:\t0000000000000000\n", "SigCgt:\t0000000000000000\n", "Threads:\t1\n"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("process %d lacks %q:\n%s", pid, want, b)
			}
		}
	}
	_ = unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0)
	if e, err := exit(t, c); err != nil || e.Status.Signal() != unix.SIGKILL {
		t.Errorf("%+v, %v", e, err)
	}
	release(t, c)
}

// Descriptors of ours that are not close-on-exec stay ours.
func TestInheritsNothing(t *testing.T) {
	leaky, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaky)
	high, err := unix.FcntlInt(uintptr(leaky), unix.F_DUPFD, 500)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	l := watched(t)
	c := spawned(t, l, parked(spawntest.Dir(t)))
	have := fds(t, l)
	for _, link := range have {
		if strings.Contains(link, "passwd") {
			t.Errorf("the launcher has %q", have)
		}
	}
	if len(have) != 5 || !slices.ContainsFunc(have, func(s string) bool { return strings.HasPrefix(s, "3 socket:") }) {
		t.Errorf("the launcher has %q: want three times /dev/null, the control socket and a signalfd", have)
	}
	_ = unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0)
	if _, err := exit(t, c); err != nil {
		t.Error(err)
	}
	release(t, c)
}

// A launcher without namespaces ends what it forked by hand.
func TestWithoutNamespaces(t *testing.T) {
	spawntest.Watch(t)
	l := start(t, launcher.Options{})
	s := parked(spawntest.Dir(t))
	s.CloneFlags = 0
	children := []*launcher.Child{spawned(t, l, s)}
	if fds, err := l.Run([]plan.Step{step(plan.OpenFile, []uint64{plan.SlotListen, unix.O_RDONLY}, "/proc/self/ns/pid")}); err != nil {
		t.Error(err)
	} else {
		nothing(fds)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, l, children)
}

func TestStartRefused(t *testing.T) {
	spawntest.Watch(t)
	for _, o := range []launcher.Options{
		{Namespaces: unix.CLONE_NEWNS | unix.CLONE_FS},
		{Namespaces: unix.CLONE_NEWUSER, UIDs: []launcher.IDMap{{Inside: 0, Outside: 0, Count: -1}}},
	} {
		if l, err := launcher.Start(o); err == nil {
			t.Errorf("%+v works", o)
			l.Close()
		}
	}
	no := errors.New("no")
	o := options()
	o.MapIDs = func(pid int) error {
		if pid <= 0 {
			t.Errorf("asked to map the ids of %d", pid)
		}
		return no
	}
	if _, err := launcher.Start(o); !errors.Is(err, no) {
		t.Errorf("%v does not say why", err)
	}
}

func TestAsUser(t *testing.T) { spawntest.AsUser(t, "Object|Rebuild|Image|Sanitizers|Fuzz|Emulated") }
