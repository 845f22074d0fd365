// Command guest is what the tests of vmrun run in a guest.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if err := play(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func play(args []string) error {
	switch args[0] {
	case "talk":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		_, err := io.Copy(os.Stdout, os.Stdin)
		if err == nil {
			os.Exit(7)
		}
		return err
	case "signal":
		return unix.Kill(os.Getpid(), unix.SIGTERM)
	case "sleep":
		time.Sleep(time.Hour)
		return nil
	case "orphan":
		// A process that outlives the program and holds its output.
		_, err := os.StartProcess(os.Args[0], []string{os.Args[0], "sleep"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
		fmt.Println("left one behind")
		return err
	case "panic":
		fmt.Println("about to panic")
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "facts":
		return json.NewEncoder(os.Stdout).Encode(facts())
	case "write":
		return os.WriteFile(args[1], []byte("was here"), 0o644)
	case "fill": // a file of 16 MiB, to the disk
		f, err := os.Create(args[1])
		if err == nil {
			_, err = f.Write(make([]byte, 16<<20))
			if e := f.Sync(); err == nil {
				err = e
			}
		}
		return err
	case "read":
		b, err := os.ReadFile(args[1])
		fmt.Print(string(b))
		return err
	case "dial":
		c, err := net.DialTimeout("tcp", args[1], 10*time.Second)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, c)
		return err
	}
	return fmt.Errorf("unknown %q", args)
}

// Facts are what the guest is like.
type Facts struct {
	UID         int
	Dir         string
	Env         map[string]string
	Release     string
	CPUs        int
	Controllers string // of the root cgroup
	Handed      string // to the children of our cgroup's parent
	Cgroup      string
	V1          []string
	MakeCgroup  string // error, or ""
	Pivot       string
	Overlay     string
	Loopback    string
}

func facts() Facts {
	var u unix.Utsname
	_ = unix.Uname(&u)
	f := Facts{UID: os.Getuid(), Env: map[string]string{}, Release: unix.ByteSliceToString(u.Release[:])}
	f.Dir, _ = os.Getwd()
	for _, e := range os.Environ() {
		k, v, _ := strings.Cut(e, "=")
		f.Env[k] = v
	}
	var set unix.CPUSet
	_ = unix.SchedGetaffinity(0, &set)
	f.CPUs = set.Count()
	f.Controllers = text("/sys/fs/cgroup/cgroup.controllers")
	for line := range strings.Lines(text("/proc/self/cgroup")) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			f.Cgroup = path
		}
	}
	parent := filepath.Join("/sys/fs/cgroup", filepath.Dir(f.Cgroup))
	f.Handed = text(filepath.Join(parent, "cgroup.subtree_control"))
	mine := filepath.Join(parent, "made")
	f.MakeCgroup = try(func() error {
		if err := os.Mkdir(mine, 0o755); err != nil {
			return err
		}
		defer os.Remove(mine)
		return os.WriteFile(filepath.Join(mine, "memory.max"), []byte("1048576"), 0)
	})
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/tasks")
	for _, p := range v1 {
		f.V1 = append(f.V1, filepath.Base(filepath.Dir(p)))
	}
	f.Loopback = try(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			c.Close()
		}
		return err
	})
	if f.UID == 0 {
		f.Overlay, f.Pivot = try(overlay), try(pivot)
	}
	return f
}

func overlay() error {
	dir, err := os.MkdirTemp("", "overlay")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, d := range []string{"low", "up", "work", "all"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	return unix.Mount("overlay", dir+"/all", "overlay", 0, "lowerdir="+dir+"/low,upperdir="+dir+"/up,workdir="+dir+"/work")
}

func pivot() error {
	runtime.LockOSThread() // the namespace is this thread's
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pivot")
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.Mkdir(dir+"/old", 0o755); err != nil {
		return err
	}
	return syscall.PivotRoot(dir, dir+"/old")
}

func try(f func() error) string {
	if err := f(); err != nil {
		return err.Error()
	}
	return ""
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
