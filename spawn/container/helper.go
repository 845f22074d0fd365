package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
	"sandboxd/spawn/container/job"
	"sandboxd/spawn/launcher"
)

// Usable says why this backend cannot start anything here, without trying: a *spawn.Gate, or nil.
func (b *Backend) Usable() error {
	if b.rootless && min(b.options.SubUIDs.Count, b.options.SubGIDs.Count) < 2 {
		return &spawn.Gate{
			Feature: spawn.Rootless, Observed: fmt.Sprintf("uid %d has no subordinate ids, or newuidmap is not installed, and libcontainer needs them for an ordinary user", os.Geteuid()),
			Remedy: "install the package uidmap and add the user to /etc/subuid and /etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER), or use --backend native, which needs none",
		}
	}
	_, err := b.helper()
	return err
}

// Parts are the files that it is made of besides the running program.
func (b *Backend) Parts() ([]string, error) {
	name, err := b.helper()
	return []string{name}, err
}

// helper is the path of the helper program.
func (b *Backend) helper() (string, error) {
	name := b.options.Helper
	if name == "" {
		self, err := os.Executable()
		if err != nil {
			return "", helperGate(err)
		}
		name = filepath.Join(filepath.Dir(self), job.Program)
	}
	switch st, err := os.Stat(name); {
	case err != nil:
		return "", helperGate(err)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		return "", helperGate(fmt.Errorf("%s is not a program", name))
	}
	return name, nil
}

// helperGate is the answer where the helper is not to be had.
func helperGate(err error) error {
	g := &spawn.Gate{
		Feature: spawn.Helper, Observed: err.Error(),
		Remedy: "build it with `make build` and put it beside the program that uses it, or name it (--container-helper, sandbox.Options)",
	}
	if errors.Is(err, fs.ErrNotExist) && runtime.GOARCH != "amd64" {
		g.Remedy += "; it takes a C compiler for " + runtime.GOARCH
	}
	return g
}

// start starts the helper as a launcher. libcontainer executes it once more for
// each container, from a read-only view of its file that it makes itself: an
// overlay, or where it cannot, a copy in memory, which takes longer.
func (b *Backend) start() (*launcher.Launcher, error) {
	name, err := b.helper()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, helperGate(err)
	}
	defer f.Close()
	o := launcher.Options{Namespaces: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Program: f, Argv: []string{job.Program, "serve"}}
	if b.rootless {
		o.Namespaces |= unix.CLONE_NEWUSER
		o.Argv = []string{job.Program, "serve-user"}
		spawn.MapUser(&o, b.options.SubUIDs, b.options.SubGIDs)
	}
	l, err := launcher.Start(o)
	if err != nil {
		return nil, fmt.Errorf("container: %s: %w", name, err)
	}
	return l, nil
}
