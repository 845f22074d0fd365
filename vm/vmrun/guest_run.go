package vmrun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/vm/guest"
)

// perform runs the program and tells the host everything about it.
func perform(c *guest.Conn, j *job, p phases) error {
	attr := &os.ProcAttr{Dir: j.Dir, Env: j.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if j.User {
		attr.Sys.Credential = &syscall.Credential{Uid: ordinary, Gid: ordinary}
	}
	leave, err := enter(j)
	if err != nil {
		return err
	}
	var ours, theirs []*os.File
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if i == 0 {
			ours, theirs = append(ours, w), append(theirs, r)
		} else {
			ours, theirs = append(ours, r), append(theirs, w)
		}
	}
	attr.Files = theirs
	path, err := lookPath(j)
	if err != nil {
		return err
	}
	if err := c.SendJSON(ready, p); err != nil {
		return err
	}
	proc, err := os.StartProcess(path, j.Args, attr)
	if err != nil {
		return fmt.Errorf("start %s: %w", j.Args[0], err)
	}
	if err := leave(); err != nil {
		return err
	}
	for _, f := range theirs {
		f.Close()
	}
	var output sync.WaitGroup
	for i, k := range []guest.Kind{stdout, stderr} {
		output.Go(func() { _ = c.SendAll(k, ours[i+1]) })
	}
	go feed(c, ours[0])
	st, err := reap(proc.Pid)
	if err != nil {
		return err
	}
	// What the program left behind may hold its output open for ever: a second, as go test has it.
	drained := make(chan struct{})
	go func() { output.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(time.Second):
	}
	for _, path := range j.Return {
		if err := sendBack(c, path); err != nil {
			return fmt.Errorf("send back %s: %w", path, err)
		}
	}
	return c.SendJSON(exited, st)
}

// lookPath finds the program in the guest's PATH.
func lookPath(j *job) (string, error) {
	name := j.Args[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, e := range j.Env {
		if dirs, ok := strings.CutPrefix(e, "PATH="); ok {
			for _, d := range filepath.SplitList(dirs) {
				if st, err := os.Stat(filepath.Join(d, name)); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
					return filepath.Join(d, name), nil
				}
			}
		}
	}
	return "", fmt.Errorf("the guest has no program %q: pack it with --file, or give a root with --disk IMAGE:/", name)
}

// feed brings the program what the host sends, until the port ends.
func feed(c *guest.Conn, in *os.File) {
	defer in.Close()
	for {
		k, body, err := c.Receive()
		if err != nil {
			return
		}
		if k != stdin {
			continue
		}
		if len(body) == 0 {
			in.Close()
			continue
		}
		_, _ = in.Write(body) // a program that does not read it loses it
	}
}

// reap waits for pid, and for every orphan on the way.
func reap(pid int) (status, error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return status{}, fmt.Errorf("wait: %w", err)
		case got == pid && ws.Exited():
			return status{Code: ws.ExitStatus()}, nil
		case got == pid && ws.Signaled():
			return status{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}, nil
		}
	}
}

func sendBack(c *guest.Conn, path string) error {
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the program made none
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := c.SendJSON(file, returned{path, uint32(info.Mode().Perm())}); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return c.SendAll(data, f)
	})
}
