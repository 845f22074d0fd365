package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox"
	"sandboxd/spawn"
)

// run is `sandboxd run`: attached, without a daemon.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	o, err := parseRun(args, out)
	if errors.Is(err, errHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(errs, "sandboxd: run: %v\n", err)
		return exitOurs
	}
	if err := o.openReport(); err != nil { // before the program has run for hours
		fmt.Fprintf(errs, "sandboxd: run: %v\n", err)
		return exitOurs
	}
	o.spec.Stdin, o.spec.Stdout, o.spec.Stderr = in, out, errs
	o.spec.ReadBack = o.report != "" || o.json || o.verbose
	report, err := o.execute(errs)
	if err != nil && !o.quiet {
		fmt.Fprintf(errs, "sandboxd: run: %v\n", err)
	}
	if err := o.publish(report, errs); err != nil {
		fmt.Fprintf(errs, "sandboxd: run: %v\n", err)
		return exitOurs
	}
	return report.Exit.Code
}

// options are the Host's. Compiled modules are kept where the user keeps such things, if there is a home.
func (o *runOptions) options(hold <-chan struct{}) sandbox.Options {
	h := sandbox.Options{Only: &o.spec, Hold: hold, ContainerHelper: o.helper, Runsc: o.runsc, WasmWorker: o.worker, VMKernel: o.kernel, VMModules: o.modules}
	if o.spec.Backend == "wasm" {
		if dir, err := os.UserCacheDir(); err == nil {
			h.WasmCache = filepath.Join(dir, "sandboxd", "wasm")
		}
	}
	return h
}

// execute runs the actor. The report is never nil.
func (o *runOptions) execute(errs io.Writer) (*sandbox.Report, error) {
	signals := make(chan os.Signal, 16)
	notified := make(chan struct{})
	go func() { // beside the start of the launcher: it takes several thread switches
		signal.Ignore(syscall.SIGPIPE) // a reader that goes away is an error of the write, and no reason to die untidily
		signal.Notify(signals, forwarded...)
		close(notified)
	}()
	host, err := sandbox.Open(o.options(notified))
	if err != nil {
		return sandbox.SpawnFailure(&o.spec, err), err
	}
	defer host.Close()
	if w := host.Warnings(); w != nil && !o.quiet {
		fmt.Fprintf(errs, "sandboxd: left over from an earlier run: %v\n", w)
	}
	restore, err := o.openTerminal()
	if err != nil {
		return sandbox.SpawnFailure(&o.spec, err), err
	}
	defer restore()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	started := make(chan struct{})
	go hold(signals, started, cancel)
	actor, err := host.Start(ctx, o.spec)
	close(started)
	if err != nil {
		report := sandbox.SpawnFailure(&o.spec, err)
		if i, ok := errors.AsType[*interrupted](err); ok {
			report.Exit = sandbox.Exit{Code: 128 + int(i.signal), Reason: sandbox.Cancelled, Detail: i.Error()}
		}
		return report, err
	}
	go forward(actor, signals)
	report, err := actor.Wait(context.Background())
	restore()
	if o.verbose && !o.quiet {
		o.phases(report, errs)
	}
	o.complain(report, errs)
	return report, err
}

// interrupted is a signal that came before the program ran.
type interrupted struct{ signal syscall.Signal }

func (i *interrupted) Error() string {
	return "interrupted by " + unix.SignalName(i.signal) + " before the program ran"
}

// forwarded are the signals that a person or a service manager sends.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// hold keeps signals that come during the start for the program. Those that ask
// for an end also end the start.
func hold(signals chan os.Signal, started <-chan struct{}, cancel context.CancelCauseFunc) {
	var held []os.Signal
	for {
		select {
		case s := <-signals:
			held = append(held, s)
			switch sig := s.(syscall.Signal); sig {
			case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
				cancel(&interrupted{sig})
			}
		case <-started:
			for _, s := range held {
				signals <- s
			}
			return
		}
	}
}

// insist is how soon a second SIGINT or SIGTERM must follow the first one to kill a program that ignores it.
const insist = 2 * time.Second

func forward(a *sandbox.Process, signals <-chan os.Signal) {
	var last time.Time
	for s := range signals {
		sig := s.(syscall.Signal)
		switch sig {
		case syscall.SIGWINCH:
			if w, err := windowSize(); err == nil {
				_ = a.Resize(w)
			}
			continue
		case syscall.SIGINT, syscall.SIGTERM:
			if time.Since(last) < insist {
				a.Cancel("second "+unix.SignalName(sig), 0)
				continue
			}
			last = time.Now()
		}
		_ = a.Signal(sig)
	}
}

// complain says on stderr what the exit code cannot.
func (o *runOptions) complain(r *sandbox.Report, errs io.Writer) {
	if o.quiet || r.Exit.Reason == sandbox.Exited {
		return
	}
	detail := r.Exit.Detail
	if detail == "" {
		detail = r.Exit.Signal
	}
	fmt.Fprintf(errs, "sandboxd: %s ended: %s: %s\n", r.Actor.Name, r.Exit.Reason, detail)
}

func (o *runOptions) phases(r *sandbox.Report, errs io.Writer) {
	fmt.Fprintf(errs, "sandboxd: started in %v:", r.Spawn.Total.Round(time.Microsecond))
	for _, p := range r.Spawn.Phases {
		fmt.Fprintf(errs, " %s %v", p.Name, p.Took.Round(time.Microsecond))
	}
	fmt.Fprintf(errs, "\nsandboxd: enforced: %s\n", strings.Join(r.Isolation.Enforced, " "))
	fmt.Fprintf(errs, "sandboxd: backend %s: %s\n", r.Backend, r.Choice.Why)
	for _, p := range r.Choice.Passed {
		fmt.Fprintf(errs, "sandboxd: not %s: %s\n", p.Backend, p.Reason)
	}
	for _, m := range r.Isolation.Missing {
		fmt.Fprintf(errs, "sandboxd: missing: %s: %s\n", m.What, m.Reason)
	}
}

// publish writes the report where it was asked for.
func (o *runOptions) publish(r *sandbox.Report, errs io.Writer) error {
	if o.report == "" && !o.json {
		return nil
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	b = append(b, '\n')
	if o.file != nil {
		_, err = o.file.Write(b)
		if err := errors.Join(err, o.file.Close()); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if o.json {
		if _, err := errs.Write(b); err != nil {
			return fmt.Errorf("print report: %w", err)
		}
	}
	return nil
}

// openReport opens the file for the report.
func (o *runOptions) openReport() (err error) {
	if o.report == "" {
		return nil
	}
	if o.file, err = os.OpenFile(o.report, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return fmt.Errorf("--report: %w; name a file that you may write", err)
	}
	return nil
}

// openTerminal puts the caller's terminal into raw mode for -t. restore may be called twice.
func (o *runOptions) openTerminal() (restore func(), err error) {
	if !o.terminal {
		return func() {}, nil
	}
	old, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return nil, errors.New("-t needs a terminal on stdin; leave it out in scripts and pipes")
	}
	w, err := windowSize()
	if err != nil {
		w = spawn.Winsize{Rows: 24, Cols: 80}
	}
	o.spec.Terminal = &w
	if term, ok := os.LookupEnv("TERM"); ok {
		o.spec.Env = append([]string{"TERM=" + term}, o.spec.Env...)
	}
	raw := *old
	// cfmakeraw(3)
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(0, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(0, unix.TCSETS, old) }, nil
}

func windowSize() (spawn.Winsize, error) {
	w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return spawn.Winsize{}, err
	}
	return spawn.Winsize{Rows: w.Row, Cols: w.Col}, nil
}
