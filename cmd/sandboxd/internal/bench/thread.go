package bench

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownThread is an operating system thread whose mount namespace differs from
// the rest of the process: what is started from it sees other mounts.
type ownThread struct{ jobs chan func() }

// newOwnThread unshares the mount namespace and runs prepare in it.
func newOwnThread(prepare func() error) (*ownThread, error) {
	t := &ownThread{jobs: make(chan func())}
	ready := make(chan error)
	onOwnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = prepare()
		}
		ready <- err
		if err == nil {
			for job := range t.jobs {
				job()
			}
		}
	})
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("bench: a mount namespace of our own: %w", err)
	}
	return t, nil
}

// onOwnThread runs f on a thread that ends with it, for it is never unlocked.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread cannot end, and speaks for the process in /proc/self.
		// While we hold it, another goroutine gets another thread.
		started := make(chan struct{})
		onOwnThread(func() {
			close(started)
			f()
		})
		<-started
		runtime.UnlockOSThread()
	}()
}

func (t *ownThread) do(job func()) {
	done := make(chan struct{})
	t.jobs <- func() {
		defer close(done)
		job()
	}
	<-done
}

// close ends the thread, and with it the namespace once its processes ended.
func (t *ownThread) close() error {
	close(t.jobs)
	return nil
}
