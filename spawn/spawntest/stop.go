package spawntest

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
)

// stopTests are about ends that are not the program's own.
var stopTests = []test{
	{"WaitByMany", "", testWaitByMany},
	{"KillTwice", "", testKillTwice},
	{"CloseTwice", "", testCloseTwice},
	{"SignalDuringClose", "", testSignalDuringClose},
	{"CloseBackend", "", testCloseBackend},
	{"CloseDuringStart", "", testCloseDuringStart},
	{"DaemonsEndWithProgram", "", testDaemonsEndWithProgram},
	{"DaemonsEndWithKill", KillWhole, testDaemonsEndWithKill},
	{"InitKilled", KillWhole, testInitKilled},
	{"LauncherKilled", KillWhole, testLauncherKilled},
}

func testWaitByMany(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.live(t, b, "echo ready; read x; exit 9")
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.Wait(over); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait whose context is over: %v", err)
	}
	exits := make(chan spawn.Exit, 32)
	var group sync.WaitGroup
	for range cap(exits) {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			exit, err := p.Wait(ctx)
			if err != nil {
				t.Error(err)
			}
			exits <- exit
		})
	}
	p.stdin.Close()
	group.Wait()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	last := p.wait() // also after Close
	if !last.Reported || last.Status.ExitStatus() != 9 {
		t.Errorf("%+v", last)
	}
	for range cap(exits) {
		if exit := <-exits; exit != last {
			t.Errorf("one saw %+v, another %+v", exit, last)
		}
	}
}

func testKillTwice(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.live(t, b, `trap "" TERM INT HUP; echo ready; while :; do sleep 1000; done`)
	for range 3 {
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("kill: %v", err)
		}
	}
	if exit := p.wait(); !exit.Status.Signaled() || exit.Status.Signal() != unix.SIGKILL {
		t.Errorf("killed: %+v", exit)
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("kill of what is dead: %v", err)
	}
}

func testCloseTwice(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.live(t, b, `trap "" TERM; echo ready; read x`)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if left := below(p.PID()); len(left) > 0 {
		t.Errorf("alive after Close: %v", left)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal after Close: %v, want os.ErrProcessDone", err)
	}
	p.wait()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.try(t, bounded(t), b, nil, "true"); err == nil {
		t.Error("a closed backend starts actors")
	}
}

// A signal comes to the actor or to nobody, not to what has its descriptor next.
func testSignalDuringClose(t *testing.T, s *suite) {
	b := s.open(t)
	for range Rounds(10, 500) {
		p := s.start(t, b, nil, "sleep", "1000")
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for {
					if err := p.Signal(unix.SIGURG); errors.Is(err, os.ErrProcessDone) {
						return
					} else if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}

// below lists what is alive and is the process or was started by it.
func below(pid int) (found []Proc) {
	all := Descendants()
	up := map[int]int{}
	for _, p := range all {
		up[p.PID] = p.Parent
	}
	for _, p := range all {
		for at := p.PID; at != 0 && p.State != 'Z'; at = up[at] {
			if at == pid {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// Close of the backend ends every actor, whether or not the actors are closed.
func testCloseBackend(t *testing.T, s *suite) {
	b := s.open(t)
	var all []*program
	for range 4 {
		all = append(all, s.live(t, b, `trap "" TERM HUP INT; sleep 1000 & echo ready; read x; sleep 1000`))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if exit, err := p.Wait(bounded(t)); err == nil && exit.Status == 0 {
			t.Errorf("the backend was closed: %+v", exit)
		}
	}
	gone(t, "the backend was closed and all waits returned")
}

// gone waits until no process is left but those that are being reaped.
func gone(t testing.TB, when string) {
	t.Helper()
	var left []Proc
	for end := time.Now().Add(settle); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		left = left[:0]
		for _, p := range Descendants() {
			if p.State != 'Z' {
				left = append(left, p)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	for _, p := range left { // by their ids; they are ours
		_ = unix.Kill(p.PID, unix.SIGKILL)
	}
	t.Errorf("%s, and alive are %+v", when, left)
}

func testCloseDuringStart(t *testing.T, s *suite) {
	for i := range Rounds(6, 200) {
		b := s.open(t)
		var group sync.WaitGroup
		for range 4 {
			r := s.request(t)
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			r.Argv, r.Stdio = []string{"sleep", "1000"}, [3]*os.File{null, null, null}
			group.Go(func() {
				defer null.Close()
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				defer cancel()
				for {
					p, err := b.Start(ctx, r)
					if errors.Is(err, context.DeadlineExceeded) {
						t.Error("a start hung while the backend was closed")
					}
					if err != nil {
						return
					}
					if err := p.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
	}
}

// daemons are two processes of other sessions that heed no signal, besides the program.
func (s *suite) daemons(t *testing.T, b spawn.Backend, script string) *program {
	t.Helper()
	s.need(t, Children)
	p := s.live(t, b, `(trap "" HUP TERM INT; setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 </dev/null &) ; echo ready; `+script)
	for end := time.Now().Add(deadline); !s.foreign() && len(sleepers(p.PID())) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the daemons are not seen below the init: %v", below(p.PID()))
		}
	}
	return p
}

// sleepers are the daemons below pid.
func sleepers(pid int) []Proc {
	return slices.DeleteFunc(below(pid), func(p Proc) bool { return p.Name != "sleep" })
}

// noDaemons is asked when a wait has returned that promises their end. On another kernel they are
// whatever was below the init.
func (s *suite) noDaemons(t *testing.T) {
	t.Helper()
	for _, d := range Descendants() {
		if (d.Name == "sleep" || d.Name == "sh" || s.foreign() && d.Name != Launcher) && d.State != 'Z' {
			t.Errorf("alive after the end: %+v", d)
		}
	}
}

func testDaemonsEndWithProgram(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.daemons(t, b, "read x; exit 3")
	p.stdin.Close()
	if exit := p.wait(); exit.Status.ExitStatus() != 3 {
		t.Errorf("%+v", exit)
	}
	s.noDaemons(t)
}

func testDaemonsEndWithKill(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.daemons(t, b, "read x")
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait()
	s.noDaemons(t)
}

// Somebody else kills the init, which is not the program's doing.
func testInitKilled(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.daemons(t, b, "read x")
	if err := unix.Kill(p.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := p.wait(); exit.Reported || !exit.Status.Signaled() || exit.Status.Signal() != unix.SIGKILL {
		t.Errorf("the init was killed: %+v", exit)
	}
	s.noDaemons(t)
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal to what is dead: %v", err)
	}
}

// Somebody else kills the launcher, which ends its actors, and no more than them.
func testLauncherKilled(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.daemons(t, b, "read x")
	if !strike(Launcher) {
		t.Fatal("there is no launcher to kill")
	}
	if exit, err := p.Wait(bounded(t)); err == nil {
		t.Errorf("the launcher was killed: %+v", exit)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	s.noDaemons(t)
	if out := s.output(t, b, nil, "echo", "after"); out != "after\n" {
		t.Errorf("%q", out)
	}
}
