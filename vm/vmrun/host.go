// Package vmrun runs one program, a Go test binary most often, in a guest of
// its own, as if it ran here.
//
//	go test -exec "sandboxd vm run --" ./...
//	sandboxd vm run --kernel 6.12 --as user -- ./program arg
//
// The program that links this package is both sides: the host's, Main, and the
// guest's init, Guest, which it packs into an initramfs with the program, its
// testdata and what else is named. Output, exit status, coverage and profiles
// come back over a virtio-serial port; nothing is shared while it runs.
//
// A boot that did not get as far as the program is tried once more; a program
// never is. What is ours to blame ends with code 125 and a sentence.
//
// Non-goals: sharing directories with a running guest, interactive terminals,
// guests that live on (backends use package vm themselves).
package vmrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"sandboxd/vm"
	"sandboxd/vm/debian"
	"sandboxd/vm/guest"
)

// exitOurs is the code of a failure that is the runner's own, as docker has it.
const exitOurs = 125

// Main is the host's side: it runs the program that args name, and returns the
// code to exit with: the program's own, or 125 where the runner failed. The
// guest's init is the file init started with arguments guest; it must lead to
// Guest.
func Main(args []string, init string, guest []string, in io.Reader, out, errs io.Writer) int {
	o, err := parseFlags(args)
	if errors.Is(err, errHelp) {
		fmt.Fprintf(out, usage, strings.Join(debian.Kernels(), ", "), debian.Kernels()[0])
		return 0
	}
	if err != nil {
		fmt.Fprintf(errs, "vm: %v; see --help\n", err)
		return exitOurs
	}
	if err := staticInit(init); err != nil {
		fmt.Fprintf(errs, "vm: %v\n", err)
		return exitOurs
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	code := 0
	if len(o.kernels)*o.count > 1 {
		in = nil // it can be read once only
	}
	for _, k := range o.kernels {
		r := &runner{options: o, kernel: k, init: init, guest: guest, in: in, out: out, errs: errs}
		c := 0
		for range o.count {
			var err error
			c, err = r.run(ctx)
			if ctx.Err() != nil {
				err = errors.New("interrupted; the guest is gone")
			}
			if err != nil {
				fmt.Fprintf(errs, "vm: %s\n", strings.TrimPrefix(err.Error(), "vm: "))
				c = exitOurs
			}
			if c != 0 {
				break
			}
		}
		if o.count > 1 {
			r.times.print(errs)
		}
		if len(o.kernels) > 1 {
			fmt.Fprintf(errs, "vm: kernel %s: exit code %d\n", k, c)
		}
		if code == 0 || c == exitOurs {
			code = c
		}
		if ctx.Err() != nil {
			break
		}
	}
	return code
}

// times are what the runs of one kernel took.
type times struct {
	again                       int // boots that had to be tried once more
	boot, program, besides, all []time.Duration
}

func (t *times) print(w io.Writer) {
	fmt.Fprintf(w, "vm: %d runs, %d boots tried again\n", len(t.all), t.again)
	for _, row := range []struct {
		name  string
		times []time.Duration
	}{{"to the program", t.boot}, {"program", t.program}, {"packing and ending", t.besides}, {"all", t.all}} {
		if d := slices.Sorted(slices.Values(row.times)); len(d) > 0 {
			fmt.Fprintf(w, "vm: %-18s median %s, from %s to %s\n", row.name, ms(d[len(d)/2]), ms(d[0]), ms(d[len(d)-1]))
		}
	}
}

type runner struct {
	*options
	kernel string // of this run
	times  times
	init   string
	guest  []string
	in     io.Reader
	out    io.Writer
	errs   io.Writer
}

// bootError is a guest that did not get as far as the program.
type bootError struct{ error }

func (e bootError) Unwrap() error { return e.error }

// run boots the guest, a second time if it must, and returns the program's code.
func (r *runner) run(ctx context.Context) (int, error) {
	config, err := r.config(ctx)
	if err != nil {
		return 0, err
	}
	defer config.close()
	begin := time.Now()
	initrd, j, err := pack(r.options, r.init, config.modules)
	if err != nil {
		return 0, config.blame(err)
	}
	defer initrd.Close()
	config.Initrd = initrd
	packed := time.Since(begin)
	why := "--emulate"
	if !r.emulate {
		var device *os.File
		if device, why = vm.KVM(); device != nil {
			device.Close() // QEMU opens it, for an older one could not be given it
			config.KVM = true
		}
	}
	for try := 1; ; try++ {
		how := "KVM"
		if !config.KVM {
			how = "emulated, " + why
		}
		if r.verbose || !config.KVM && try == 1 {
			fmt.Fprintf(r.errs, "vm: kernel %s, cgroup %s, as %s (%s)\n", r.kernel, r.cgroup, r.as, how)
		}
		code, err := r.once(ctx, config, j, packed)
		var boot bootError
		if err == nil || !errors.As(err, &boot) || ctx.Err() != nil {
			return code, err
		}
		if try == 2 {
			return 0, config.blame(err)
		}
		r.times.again++
		fmt.Fprintf(r.errs, "vm: %v\nvm: the program had not begun: booting once more\n", err)
		if config.KVM {
			config.KVM, why = false, "KVM did not get it to boot"
		}
	}
}

// bootPatience is how long a guest may take until the program starts.
func (r *runner) bootPatience(kvm bool) time.Duration {
	switch {
	case r.bootTimeout > 0:
		return r.bootTimeout
	case kvm:
		return 20 * time.Second
	}
	return 90 * time.Second
}

// once is one boot.
func (r *runner) once(ctx context.Context, config *config, j *job, packed time.Duration) (code int, err error) {
	if _, err := config.Initrd.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	console, err := newConsole(r.console)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := console.close(); err == nil {
			err = e
		}
	}()
	config.Console = console
	begin := time.Now()
	m, err := vm.Start(config.Config)
	if err != nil {
		return 0, config.blame(err)
	}
	defer m.Kill()
	stop := context.AfterFunc(ctx, m.Kill)
	defer stop()

	s := session{runner: r, job: j, conn: &guest.Conn{RW: m.Ports[0]}, accept: map[string]bool{}}
	for _, p := range j.Return {
		s.accept[p] = true
	}
	boot := r.bootPatience(config.KVM)
	deadline := time.AfterFunc(boot, m.Kill)
	defer deadline.Stop()
	var own guestError
	err = s.begin()
	if err != nil {
		timely := deadline.Stop()
		m.Kill()
		qemu := m.Wait()
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case errors.As(err, &own):
			return 0, fmt.Errorf("%w%s", err, console.show())
		case !timely:
			err = fmt.Errorf("the guest said nothing for %s (--boot-timeout)", boot)
		case strings.Contains(console.text(), "Kernel panic"):
			err = errors.New("the guest's kernel panicked while it booted")
		case qemu != nil && !killed(qemu):
			err = fmt.Errorf("the guest ended before the program began: %w", qemu)
		default:
			err = fmt.Errorf("the guest ended before the program began: %w", err)
		}
		return 0, bootError{fmt.Errorf("%w%s", err, console.show())}
	}
	ready := time.Since(begin)
	if r.limit > 0 {
		deadline.Reset(r.limit)
	} else {
		deadline.Stop()
	}
	go s.feed(r.in)
	code, err = s.serve()
	if err != nil {
		timely := r.limit == 0 || deadline.Stop()
		m.Kill()
		_ = m.Wait()
		var here hostError
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case errors.As(err, &own), errors.As(err, &here):
			return 0, err
		case !timely:
			err = fmt.Errorf("the program was not done after %s, and the guest was ended", r.limit)
		case strings.Contains(console.text(), "Kernel panic"):
			err = errors.New("the guest's kernel panicked while the program ran")
		default:
			err = fmt.Errorf("the guest ended while the program ran: %w", err)
		}
		return 0, fmt.Errorf("%w%s", err, console.show())
	}
	done := time.Since(begin)
	m.Kill()
	ended := time.Since(begin)
	if len(r.disks) > 0 && strings.Contains(console.text(), "I/O error, dev vd") {
		return 0, fmt.Errorf("a disk of the guest failed while the program ran: free some space in %s, where what it writes is kept while it runs%s", vm.Scratch, console.show())
	}
	t := &r.times
	t.boot, t.program = append(t.boot, ready), append(t.program, done-ready)
	t.besides, t.all = append(t.besides, packed+ended-done), append(t.all, packed+ended)
	if r.verbose {
		p := s.phases
		fmt.Fprintf(r.errs, "vm: packed %s; to the program %s (guest: init %s, modules %s, ready %s); program %s; end %s; kernel %s\n",
			ms(packed), ms(ready), ms(p.Kernel), ms(p.Modules), ms(p.Ready), ms(done-ready), ms(ended-done), p.Release)
	}
	if code != 0 && r.console == "" {
		if path, err := console.keep(config.logs, r.args[0]); err != nil {
			fmt.Fprintf(r.errs, "vm: keep the console: %v\n", err)
		} else {
			fmt.Fprintf(r.errs, "vm: exit code %d; the guest's console is in %s\n", code, path)
		}
	}
	return code, nil
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func killed(qemu error) bool { return strings.Contains(qemu.Error(), "signal: killed") }
