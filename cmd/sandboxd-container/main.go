// Command sandboxd-container makes the containers of the backend "container"
// (package sandboxd/spawn/container), which starts it; it is of no use by itself.
//
//	sandboxd-container serve      # descriptor 3 is a supervisor's control socket
//	sandboxd-container serve-user # the same, once an ordinary user's ids are mapped
//	sandboxd-container --version
//
// Whoever serves is process 1 of a pid namespace: when the supervisor is gone it
// ends, and with it, by the kernel, every container.
//
// Non-goals: deciding anything (package sandbox does), and confining the program (the minimal init does).
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/cmd/sandboxd-container/internal/oci"
	"sandboxd/cmd/sandboxd-container/internal/stage"
	"sandboxd/spawn/container/job"
	"sandboxd/spawn/launcher"
)

// Version is that of the build.
var Version = "devel"

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "--version":
		fmt.Printf("%s %s (containers of version %d, %s)\n", job.Program, Version, job.Version, runtime.Version())
	case len(os.Args) == 2 && os.Args[1] == "serve" && os.Getpid() == 1:
		_ = serve()
		os.Exit(1) // nobody reads what it would say; a start that waits is told that the helper is gone
	case len(os.Args) == 2 && os.Args[1] == "serve-user" && os.Getpid() == 1:
		_ = launcher.Remapped(os.Args[0], "serve")
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "%s is started by programs that use the backend \"container\", such as sandboxd run --backend container\n", job.Program)
		os.Exit(2)
	}
}

func init() { runtime.LockOSThread() } // main names its thread, which must be the process's first

func serve() error {
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	if err := closeInherited(); err != nil {
		return err
	}
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	opened := stage.Open()
	image, err := launcher.Sealed("sandboxd-init", strings.NewReader(launcher.Object()))
	if opened == nil {
		opened = err
	}
	var next atomic.Int64
	return launcher.Serve(func(j *launcher.Job) (launcher.Exit, error) {
		if opened != nil {
			return launcher.Exit{}, opened
		}
		return run("c"+strconv.FormatInt(next.Add(1), 10), j, image)
	})
}

// name is what process lists call who makes sandboxes, whatever it makes them of.
var name = []byte("sandboxd-launch\x00")

// closeInherited closes what a supervisor's other code let slip through its
// fork. All that is ours closes at exec, so what does not is not ours.
func closeInherited() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, f := range fds {
		fd, err := strconv.Atoi(f.Name())
		if err != nil || fd <= launcher.ControlFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}

// run makes one container and waits for its end.
func run(id string, request *launcher.Job, image *os.File) (launcher.Exit, error) {
	j, err := job.Decode(request.Text)
	if err != nil {
		return launcher.Exit{}, err
	}
	s, err := stage.Build(id, j)
	if err != nil {
		return launcher.Exit{}, err
	}
	c, err := oci.Start(id, j, s, image, request.Plan, request.Files)
	if err != nil {
		s.Close()
		return launcher.Exit{}, err
	}
	pidfd, err := c.Pidfd()
	if err != nil {
		c.Kill()
		s.Close()
		return launcher.Exit{}, err
	}
	request.Started(pidfd, s.Listener, s.Scratch)
	s.Close()
	return c.Wait()
}
