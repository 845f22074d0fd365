package spawntest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
)

// The names of the processes that a backend's actors are made of, for Kills.
const (
	Launcher = "sandboxd-launch"
	Init     = "sandboxd-init"
)

// patience bounds each kind of kill on a machine under load.
var patience = time.Duration(Rounds(12, 300)) * time.Second

// Kills kills with SIGKILL at random moments, while four spawners are at work:
// the supervisor, and processes below it by the names given. What is left must
// be nothing, and no spawner may wait for what will not come.
func Kills(t *testing.T, newBackend func(testing.TB) spawn.Backend, request func(testing.TB) *spawn.Request, names ...string) {
	s := &suite{newBackend, request, nil}
	if os.Getenv(victimEnv) != "" {
		b := s.backend(t)
		s.spawners(t, b, func() { fmt.Println("alive") })
		return // it is killed before
	}
	Warm(t, newBackend, request)
	t.Run("Supervisor", s.killSupervisor)
	for _, name := range names {
		t.Run(name, func(t *testing.T) { s.killBelow(t, name) })
	}
}

// spawners start and end actors until stop is called, or for ever in a victim.
// told is called when the first one runs.
func (s *suite) spawners(t *testing.T, b spawn.Backend, told func()) (stop func()) {
	var group sync.WaitGroup
	var over atomic.Bool
	once := sync.OnceFunc(told)
	for i := range 4 {
		group.Go(func() {
			for !over.Load() && !t.Failed() {
				s.spawnOne(t, b, once, time.Duration(rand.IntN(10*(i+1)))*time.Millisecond)
			}
		})
	}
	if os.Getenv(victimEnv) != "" {
		group.Wait()
	}
	return func() {
		over.Store(true)
		group.Wait()
	}
}

// spawnOne starts an actor, and ends it after a while unless somebody else does.
func (s *suite) spawnOne(t *testing.T, b spawn.Backend, started func(), live time.Duration) {
	r := s.request(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer null.Close()
	r.Argv, r.Stdio = []string{"sh", "-c", "sleep 1000 & sleep 1000 & wait"}, [3]*os.File{null, null, null}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	p, err := b.Start(ctx, r)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("a start waited for what will not come")
		}
		return
	}
	started()
	time.Sleep(live)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
		t.Error("a wait for what is dead does not return")
	}
}

func (s *suite) killSupervisor(t *testing.T) {
	Watch(t)
	self := Self(t)
	pattern, _, _ := strings.Cut(t.Name(), "/")
	late := 0
	for n, end := 0, time.Now().Add(patience); n < Rounds(60, 500) && time.Now().Before(end); n++ {
		cmd := Again(t, self, "^"+pattern+"$", "", victimEnv+"=1", "TMPDIR="+Dir(t))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if rand.IntN(3) > 0 { // else at a moment when perhaps nothing has been started
			for in := bufio.NewScanner(out); in.Scan() && in.Text() != "alive"; {
			}
			late++
		}
		time.Sleep(time.Duration(rand.IntN(25_000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		gone(t, "the supervisor was killed")
		Reap()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d supervisors had actors when they were killed", late)
}

func (s *suite) killBelow(t *testing.T, name string) {
	Watch(t)
	b := s.open(t)
	stop := s.spawners(t, b, func() {})
	killed := 0
	const enough = 5 // to say anything, however slow the machine
	for end := time.Now().Add(patience); killed < Rounds(60, 1000) && (killed < enough || time.Now().Before(end)) && !t.Failed(); {
		time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		if strike(name) {
			killed++
		}
	}
	stop()
	t.Logf("%d processes %s were killed", killed, name)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	gone(t, "all was closed")
}

// strike kills one process of ours that has the name, by a pidfd: numbers are used again.
func strike(name string) bool {
	all := Descendants()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, p := range all {
		if p.Name != name || p.State == 'Z' {
			continue
		}
		fd, err := unix.PidfdOpen(p.PID, 0)
		if err != nil {
			continue
		}
		ours := slices.ContainsFunc(Descendants(), func(d Proc) bool { return d.PID == p.PID && d.Name == name })
		if ours {
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
		if ours && err == nil {
			return true
		}
	}
	return false
}
