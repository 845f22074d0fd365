package wasm

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"sandboxd/spawn"
	"sandboxd/spawn/wasm/job"
)

// Usable says why this backend cannot start anything here, without trying: a *spawn.Gate, or nil.
func (b *Backend) Usable() error {
	f, err := b.open()
	if err != nil {
		return err
	}
	return f.Close()
}

// open opens the worker program.
func (b *Backend) open() (*os.File, error) {
	name := b.options.Worker
	if name == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, workerGate(err)
		}
		name = filepath.Join(filepath.Dir(self), job.Program)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, workerGate(err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		f.Close()
		return nil, workerGate(fmt.Errorf("%s is not a program", name))
	}
	return f, nil
}

// workerGate is the answer where the worker is not to be had.
func workerGate(err error) error {
	return &spawn.Gate{
		Feature: spawn.Helper, Observed: err.Error(),
		Remedy: "build it with `make build` and put it beside the program that uses it, or name it (--wasm-worker, sandbox.Options)",
	}
}

var identities sync.Map // by path, size and time

// identity is the worker's: what one compiles, another one need not be able to run.
func (b *Backend) identity() (sum job.Sum, err error) {
	f, err := b.open()
	if err != nil {
		return sum, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return sum, err
	}
	key := fmt.Sprint(f.Name(), st.Size(), st.ModTime().UnixNano())
	if known, ok := identities.Load(key); ok {
		return known.(job.Sum), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	identities.Store(key, sum)
	return sum, nil
}
