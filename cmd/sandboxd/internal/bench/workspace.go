package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Workspace is what the peers need on disk: a private directory and the name of
// a cgroup folder of our own. Whatever the peers leave behind is below these
// two, so Close finds it.
type Workspace struct {
	dir    string
	folder string

	mu      sync.Mutex
	closers []func() error // guarded by mu; of subjects, last first
	closed  bool
}

// NewWorkspace makes the directory below os.TempDir, which must allow programs
// to be executed. The caller owes it a Close on every way out; after SIGINT or
// SIGTERM too, which is easiest with signal.NotifyContext.
func NewWorkspace() (*Workspace, error) {
	dir, err := os.MkdirTemp("", "sandboxd-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench: make a private directory: %w; set TMPDIR", err)
	}
	w := &Workspace{dir: dir, folder: filepath.Base(dir)}
	// Mapped ids must get through to the program, but need not list anything.
	if err = os.Chmod(dir, 0o711); err == nil {
		err = w.makeRoot()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bench: prepare %s: %w", dir, err), os.RemoveAll(dir))
	}
	return w, nil
}

// makeRoot makes the root directory that OCI runtimes get, with the program.
func (w *Workspace) makeRoot() error {
	for _, d := range []string{"proc", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(w.root(), d), 0o755); err != nil {
			return err
		}
	}
	return writeTiny(w.program())
}

// Dir is the private directory.
func (w *Workspace) Dir() string { return w.dir }

// Folder is the name of the cgroup folder, below our own cgroup in whichever
// hierarchies a peer makes it.
func (w *Workspace) Folder() string { return w.folder }

func (w *Workspace) root() string    { return filepath.Join(w.dir, "root") }
func (w *Workspace) program() string { return filepath.Join(w.root(), tinyName) }

// onClose registers what a subject must undo. After Close it runs at once.
func (w *Workspace) onClose(f func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errors.Join(errors.New("bench: workspace is closed"), f())
	}
	w.closers = append(w.closers, f)
	return nil
}

// Close ends what subjects still run and removes all that they left. Twice is
// fine. It does not wait for spawns in flight: return from the drivers first.
func (w *Workspace) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	var errs []error
	for _, v := range slices.Backward(w.closers) {
		errs = append(errs, v())
	}
	all, err := hierarchies()
	errs = append(errs, err, sweepCgroups(all, w.folder), os.RemoveAll(w.dir))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("bench: clean up: %w", err)
	}
	return nil
}

// probeOnce is the end of every Probe: what cannot spawn once cannot be measured.
func probeOnce(ctx context.Context, s Subject, remedy string) error {
	if _, err := s.Once(ctx); err != nil {
		return &AbsentError{Subject: s.Name(), Reason: remedy, Err: err}
	}
	return nil
}
