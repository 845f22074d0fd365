package spawntest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
)

// startTests are about what starts and how it ends.
var startTests = []test{
	{"ExitCode", "", testExitCode},
	{"ExitBySignal", Signals, testExitBySignal},
	{"Identity", "", testIdentity},
	{"ForwardsSignals", Signals, testForwardsSignals},
	{"SignalsKill", "", testSignalsKill},
	{"PhasesAndUsage", "", testPhasesAndUsage},
	{"OneAfterAnother", "", testOneAfterAnother},
	{"Concurrently", "", testConcurrently},
	{"Hidden", Hidden, testHidden},
	{"IntoCgroup", "", testIntoCgroup},
}

func testExitCode(t *testing.T, s *suite) {
	b := s.open(t)
	for _, code := range []int{0, 1, 42, 125, 126, 127, 137, 255} {
		p := s.start(t, b, nil, "sh", "-c", fmt.Sprint("exit ", code))
		if exit := p.wait(); !exit.Reported || !exit.Status.Exited() || exit.Status.ExitStatus() != code {
			t.Errorf("exit %d: %+v", code, exit)
		}
	}
}

func testExitBySignal(t *testing.T, s *suite) {
	b := s.open(t)
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGABRT, unix.SIGTERM, unix.SIGKILL, unix.SIGSYS} {
		p := s.start(t, b, nil, "sh", "-c", fmt.Sprintf("kill -%d $$", sig))
		if exit := p.wait(); !exit.Reported || !exit.Status.Signaled() || exit.Status.Signal() != sig {
			t.Errorf("%v: %+v", sig, exit)
		}
	}
}

// The PID is that of a process below this one, alive until the end and gone after it.
func testIdentity(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.start(t, b, nil, "cat")
	below := slices.ContainsFunc(Descendants(), func(d Proc) bool { return d.PID == p.PID() && d.State != 'Z' })
	if !below {
		t.Errorf("pid %d is not alive below this process: %v", p.PID(), Descendants())
	}
	if p.Terminal() != nil {
		t.Error("a terminal that nobody asked for")
	}
	p.stdin.Close()
	p.wait()
	if slices.ContainsFunc(Descendants(), func(d Proc) bool { return d.PID == p.PID() }) {
		t.Errorf("pid %d is still there after Wait", p.PID())
	}
}

// ready waits until the program has written word and a newline.
func (p *program) ready(word string) *lines {
	p.t.Helper()
	l := p.lines()
	l.want(word)
	return l
}

func (p *program) lines() *lines {
	l := &lines{p.t, make(chan string, 64)}
	go func() {
		defer close(l.ch)
		for in := bufio.NewScanner(p.stdout); in.Scan(); {
			l.ch <- in.Text()
		}
	}()
	return l
}

// lines are a program's output as it comes.
type lines struct {
	t  testing.TB
	ch chan string
}

func (l *lines) want(word string) {
	l.t.Helper()
	select {
	case got, ok := <-l.ch:
		if got != word {
			l.t.Fatalf("the program wrote %q (open: %v), want %q", got, ok, word)
		}
	case <-time.After(deadline):
		l.t.Fatalf("the program does not write %q", word)
	}
}

const traps = `for s in HUP INT QUIT USR1 USR2 TERM ALRM WINCH CONT; do trap "echo $s" $s; done; echo ready; while ! read x; do :; done; echo "$x"`

func testForwardsSignals(t *testing.T, s *suite) {
	b := s.open(t)
	p := s.stream(t, b, nil, "sh", "-c", strings.Replace(traps, "; done; echo ready", `; done; trap "" PIPE; echo ready`, 1))
	l := p.ready("ready")
	for _, name := range []string{"HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "ALRM", "WINCH", "CONT"} {
		if err := p.Signal(unix.SignalNum("SIG" + name)); err != nil {
			t.Fatalf("signal %s: %v", name, err)
		}
		l.want(name)
	}
	if err := p.Signal(unix.SIGPIPE); err != nil { // ignored, so the program lives
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{unix.SIGSTOP, unix.SIGCHLD} { // which would stop the init, or be lost there
		if err := p.Signal(s); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v: %v, want that it is refused", s, err)
		}
	}
	if _, err := p.stdin.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	l.want("end")
	if exit := p.wait(); exit.Status != 0 {
		t.Errorf("%+v", exit)
	}
}

func testSignalsKill(t *testing.T, s *suite) {
	b := s.open(t)
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, syscall.Signal(37)} {
		p := s.start(t, b, nil, "cat")
		if err := p.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if exit := p.wait(); !exit.Reported || !exit.Status.Signaled() || exit.Status.Signal() != sig {
			t.Errorf("%v: %+v", sig, exit)
		}
		if err := p.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a signal to what is dead: %v, want os.ErrProcessDone", err)
		}
	}
}

func testPhasesAndUsage(t *testing.T, s *suite) {
	b := s.open(t)
	begin := time.Now()
	p := s.start(t, b, nil, "sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done")
	total := time.Since(begin)
	var sum time.Duration
	seen := map[string]bool{}
	for _, ph := range p.Phases() {
		if ph.Took < 0 || ph.Name == "" || seen[ph.Name] {
			t.Errorf("phase %q took %v", ph.Name, ph.Took)
		}
		seen[ph.Name] = true
		sum += ph.Took
	}
	if sum > total || len(seen) == 0 {
		t.Errorf("phases %v add up to %v, the start took %v", p.Phases(), sum, total)
	}
	if exit := p.wait(); exit.User+exit.System <= 0 || exit.MaxRSS <= 0 {
		t.Errorf("a program that counted to 50000 used nothing: %+v", exit)
	}
}

func testOneAfterAnother(t *testing.T, s *suite) {
	b := s.open(t)
	for i := range Rounds(30, 2000) {
		if out := s.output(t, b, nil, "echo", fmt.Sprint(i)); out != fmt.Sprintln(i) {
			t.Fatalf("round %d: %q", i, out)
		}
	}
}

func testConcurrently(t *testing.T, s *suite) {
	b := s.open(t)
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for j := range Rounds(2, 50) {
				want := fmt.Sprintf("%d.%d\n", i, j)
				r := s.request(t)
				outR, outW, err := os.Pipe()
				if err != nil {
					t.Error(err)
					return
				}
				null, err := os.Open(os.DevNull)
				if err != nil {
					t.Error(err)
					return
				}
				r.Argv, r.Stdio = []string{"printf", "%s\n", strings.TrimSpace(want)}, [3]*os.File{null, outW, outW}
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				p, err := b.Start(ctx, r)
				null.Close()
				outW.Close()
				out := collect(outR)
				if err != nil {
					t.Errorf("%s: %v", want, err)
				} else {
					exit, err := p.Wait(ctx)
					if got := out.all(t); got != want || err != nil || exit.Status != 0 || !exit.Reported {
						t.Errorf("%q: wrote %q, %+v, %v", want, got, exit, err)
					}
					if err := p.Close(); err != nil {
						t.Error(err)
					}
				}
				outR.Close()
				cancel()
			}
		})
	}
	group.Wait()
}

func testHidden(t *testing.T, s *suite) {
	b := s.open(t)
	other := s.start(t, b, nil, "cat")
	out := s.output(t, b, nil, "sh", "-c", `echo $PPID; for d in /proc/[0-9]*; do read -r name <$d/comm && echo $name; done`)
	names := strings.Fields(out)
	inits, programs := 0, 0
	for _, name := range names[1:] {
		switch name {
		case "sh":
			programs++
		case "sandboxd-init": // a helper of the init may be about to end
			inits++
		default:
			t.Errorf("the program sees a process %q", name)
		}
	}
	if names[0] != "1" || programs != 1 || inits < 1 || inits > 2 {
		t.Errorf("with another actor alive, the program sees:\n%s", out)
	}
	other.stdin.Close()
	other.wait()
}

// live is how a test waits for a program that it means to kill.
func (s *suite) live(t testing.TB, b spawn.Backend, script string) *program {
	t.Helper()
	p := s.stream(t, b, nil, "sh", "-c", script)
	p.ready("ready")
	return p
}
