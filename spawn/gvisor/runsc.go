package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sandboxd/spawn"
)

// runscName is the name of runsc's file.
const runscName = "runsc"

// oldest is the first release, by its date, that has all options which argv uses.
const oldest = "20240601"

// version is what runsc says of itself.
type version struct {
	text string // "release-20260905.0"
	date string // "20260905", "" where it has none
}

// versionTimeout bounds the question for the version.
const versionTimeout = 30 * time.Second

// path is where runsc is; a *spawn.Gate where it is not.
func (b *Backend) path() (string, error) {
	name := b.options.Runsc
	if name == "" {
		if self, err := os.Executable(); err == nil {
			name = filepath.Join(filepath.Dir(self), runscName)
		}
		if _, err := os.Stat(name); err != nil {
			found, err := exec.LookPath(runscName)
			if err != nil {
				return "", gate(fmt.Sprintf("no %s beside the running program and none in PATH", runscName))
			}
			name = found
		}
	}
	switch st, err := os.Stat(name); {
	case err != nil:
		return "", gate(err.Error())
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return "", gate(name + " is not a program")
	}
	return name, nil
}

// gate is the answer where runsc is not to be had.
func gate(observed string) error {
	return &spawn.Gate{
		Feature: spawn.Helper, Observed: observed,
		Remedy: "build it with `make bin/runsc` and put it beside the program that uses it, or name one of " + oldest[:4] + " or later (--runsc, sandbox.Options)",
	}
}

// Parts are the files that it is made of besides the running program.
func (b *Backend) Parts() ([]string, error) {
	name, err := b.path()
	return []string{name}, err
}

// find opens runsc and asks for its version.
func (b *Backend) find(ctx context.Context) (*os.File, version, error) {
	name, err := b.path()
	if err != nil {
		return nil, version{}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, version{}, gate(err.Error())
	}
	v, err := ask(ctx, f)
	if err != nil {
		f.Close()
		return nil, version{}, err
	}
	return f, v, nil
}

// ask executes what f holds, which is what will be executed later.
func ask(ctx context.Context, f *os.File) (version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", "--version")
	cmd.Args[0], cmd.Env, cmd.Dir, cmd.ExtraFiles = runscName, []string{}, "/", []*os.File{f}
	out, err := cmd.CombinedOutput()
	text, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if ctx.Err() != nil {
		return version{}, fmt.Errorf("%w: %s --version: %w", spawn.ErrBoot, f.Name(), context.Cause(ctx))
	}
	if err != nil && !errors.Is(err, syscall.ECHILD) { // with SIGCHLD ignored nobody learns how it ended
		return version{}, gate(fmt.Sprintf("%s --version: %v: %.200q", f.Name(), err, text))
	}
	v, err := parse(text)
	if err != nil {
		return version{}, gate(fmt.Sprintf("%s --version: %v", f.Name(), err))
	}
	if v.date < oldest {
		return version{}, gate(fmt.Sprintf("%s is %s, older than %s: it has no systrap, no --host-uds or no --exec-fd (Debian 12 has such a one)", f.Name(), v.text, oldest))
	}
	return v, nil
}

// parse reads "runsc version release-20260905.0", or the version of the Go module, v0.0.0-20260905035102-160fafc42237.
func parse(line string) (version, error) {
	text, ok := strings.CutPrefix(line, "runsc version ")
	if !ok {
		return version{}, fmt.Errorf("it says %.200q, so it is no runsc", line)
	}
	for i := range len(text) - 7 { // the first eight digits that can be a date; a time may follow
		date := text[i : i+8]
		if strings.HasPrefix(date, "20") && strings.Trim(date, "0123456789") == "" && (i == 0 || text[i-1] < '0' || text[i-1] > '9') {
			return version{text, date}, nil
		}
	}
	return version{}, fmt.Errorf("its version %.200q has no date; one built without a stamp says VERSION_MISSING", text)
}

// Usable says why this backend cannot start anything here, without trying: a *spawn.Gate, or nil.
func (b *Backend) Usable() error {
	_, err := b.path()
	return err
}

// Check refuses what gVisor cannot hold of r, by name.
func (b *Backend) Check(r *spawn.Request) error {
	switch {
	case r.Terminal != nil:
		return &spawn.Gate{Feature: spawn.Terminal, Observed: "unsupported: no terminal leads into gVisor from here", Remedy: "run it without one (no -t), or use --backend native"}
	case r.Notify:
		return &spawn.Gate{Feature: spawn.Filter, Observed: "unsupported: gVisor's seccomp tells nobody of a forbidden call, so none can end the program with a reason", Remedy: "use --seccomp default, or --backend native"}
	}
	return nil
}

// Probe implements spawn.Backend: one actor with everything on. Where that
// works, so does each part of what the outer actor has.
func (b *Backend) Probe(ctx context.Context) spawn.Features {
	if g, ok := errors.AsType[*spawn.Gate](b.Usable()); ok {
		return spawn.Features{g.Feature: g}
	}
	r := spawn.ProbeRequest()
	err := spawn.Try(ctx, b, r)
	if g, ok := errors.AsType[*spawn.Gate](err); ok {
		return spawn.Features{g.Feature: g}
	}
	f := spawn.Namespaced(err)
	for _, none := range []spawn.Feature{spawn.Landlock, spawn.Terminal} {
		delete(f, none)
	}
	f[spawn.Kernel] = nil
	if err != nil {
		f[spawn.Kernel] = &spawn.Gate{Feature: spawn.Kernel, Observed: err.Error(), Remedy: "run `sandboxd doctor`; gVisor's platform " + platform + " takes user namespaces and seccomp"}
	}
	return f
}
