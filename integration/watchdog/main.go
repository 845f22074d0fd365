// Command watchdog runs a test suite that may hang, from outside of it.
//
//	watchdog -timeout 20m -dump hang.txt -- go test ./...
//
// When the time is up it writes down what everybody was doing (the process
// tree with states, wait channels, kernel stacks and descriptors; then the
// goroutines of every Go test binary, which it asks for by SIGQUIT), kills
// everything, and exits 1. Otherwise the exit code is the command's.
//
// The command gets a session of its own and, where the caller may make one, a
// cgroup2 directory of its own, by which a whole tree dies at once. The
// watchdog adopts orphans, so what leaves the session is found as well. What
// the command leaves running at its own end is listed, killed, and makes the
// exit code 1 too.
//
// Non-goals: limits on anything but time.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/spawntest"
)

func main() {
	timeout := flag.Duration("timeout", 20*time.Minute, "how long the command may run")
	dump := flag.String("dump", "watchdog.txt", "file for what was going on when the time was up")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: watchdog [-timeout 20m] [-dump FILE] -- COMMAND [ARG...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	code, err := watch(*timeout, *dump, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "watchdog:", err)
	}
	os.Exit(code)
}

// tee passes output on, and during a dump writes it there too.
type tee struct {
	mu sync.Mutex
	to io.Writer
	at io.Writer // nil: no dump
}

func (t *tee) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at != nil {
		_, _ = t.at.Write(p)
	}
	return t.to.Write(p)
}

func (t *tee) dumpTo(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at = w
}

// watch runs argv to its end or ours.
func watch(timeout time.Duration, dump string, argv []string) (int, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 1, fmt.Errorf("adopt orphans: %w", err)
	}
	group, err := newGroup()
	if err != nil {
		fmt.Fprintln(os.Stderr, "watchdog: no cgroup of its own for the command:", err)
	}
	defer group.remove()
	out, errs := &tee{to: os.Stdout}, &tee{to: os.Stderr}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 10 * time.Second // for whoever keeps our pipes open
	group.join(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	stop := forward(cmd.Process.Pid)
	defer stop()
	ended := make(chan struct{})
	go func() {
		err = cmd.Wait()
		close(ended)
	}()
	clock := time.NewTimer(timeout)
	defer clock.Stop()
	select {
	case <-ended:
	case <-clock.C:
		wrote := writeDump(dump, timeout, argv, ended, out, errs)
		left := killAll(group)
		return 1, errors.Join(fmt.Errorf("%v took longer than %v; see %s", argv, timeout, dump), wrote, left)
	}
	spawntest.Reap() // orphans that have ended left nothing
	if left := tree(); len(left) > 0 {
		for _, p := range left {
			fmt.Fprintf(os.Stderr, "watchdog: left behind: %s", p.line())
		}
		return 1, errors.Join(errors.New("the command left processes behind"), killAll(group))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// forward passes on what a terminal or a service manager sends us, as the
// command is in another session.
func forward(pid int) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for s := range signals {
			_ = syscall.Kill(-pid, s.(syscall.Signal))
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}

// writeDump writes what goes on to file, lets Go test binaries tell their
// goroutines, and waits for that a little.
func writeDump(file string, timeout time.Duration, argv []string, ended <-chan struct{}, streams ...*tee) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Fprintf(f, "%v took longer than %v\n\n== processes\n", argv, timeout)
	all := tree()
	for _, p := range all {
		p.describe(f)
	}
	fmt.Fprint(f, "\n== goroutines, as far as they came\n")
	for _, s := range streams {
		s.dumpTo(f)
		defer s.dumpTo(nil)
	}
	for _, p := range all {
		if p.goTest() {
			_ = syscall.Kill(p.PID, syscall.SIGQUIT)
		}
	}
	// go test prints what its binary said when that has ended, unless somebody
	// still holds the binary's output.
	const grace = 2 * time.Second
	for last, end := time.Now(), time.Now().Add(10*time.Second); time.Now().Before(end) && time.Since(last) < grace; {
		select {
		case <-ended:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		if slices.ContainsFunc(tree(), process.goTest) {
			last = time.Now()
		}
	}
	return nil
}

// killAll returns when nothing of the command is left.
func killAll(g *group) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		g.kill()
		left := tree()
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
		spawntest.Reap()
	}
	return fmt.Errorf("still alive after SIGKILL: %v", tree())
}
