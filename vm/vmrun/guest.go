package vmrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/vm/guest"
)

// Guest is the guest's init: it makes a small system, runs the job's program
// and sends back what became of it. It returns only where it is not pid 1;
// pid 1 ends with the machine.
func Guest() error {
	if os.Getpid() != 1 {
		return errors.New("vm guest: this is what a guest's kernel starts, as process 1; see sandboxd vm run")
	}
	if err := play(); err != nil {
		// The console is what init's own output is.
		fmt.Fprintln(os.Stderr, "vm guest:", err)
	}
	err := guest.End()
	fmt.Fprintln(os.Stderr, "vm guest: reboot:", err)
	return err // init ends, the kernel panics, so does the machine
}

func play() error {
	p := phases{Kernel: guest.Uptime()}
	var j job
	b, err := os.ReadFile("/" + jobFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("%s: %w", jobFile, err)
	}
	if err := guest.KernelMounts(); err != nil {
		return err
	}
	if err := guest.LoadModules(j.Modules); err != nil {
		return err
	}
	p.Modules = guest.Uptime()
	f, err := guest.OpenPort(port)
	if err != nil {
		return err
	}
	c := &guest.Conn{RW: f}
	err = furnish(&j)
	if err == nil {
		if p.Release, err = guest.Release(); err == nil {
			p.Ready = guest.Uptime()
			err = perform(c, &j, p)
		}
	}
	if err != nil {
		if e := c.Send(failed, []byte(err.Error())); e != nil {
			return errors.Join(err, e)
		}
	}
	// The host ends the machine when it has read everything.
	_, _ = io.Copy(io.Discard, f)
	time.Sleep(5 * time.Second)
	return err
}

// furnish makes the system that the program finds.
func furnish(j *job) error {
	if err := makeRoot(j); err != nil {
		return err
	}
	for _, m := range []struct {
		fstype, at string
		flags      uintptr
		options    string
	}{
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,gid=5,ptmxmode=666"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", guest.Safe, ""},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	} {
		if err := guest.MountAt(m.fstype, m.at, m.fstype, m.flags, m.options); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// /tmp is not covered: what was packed may lie there.
	if err := errors.Join(os.MkdirAll("/tmp", 0o777), os.Chmod("/tmp", 0o1777), os.MkdirAll("/var/tmp", 0o777), os.Chmod("/var/tmp", 0o1777)); err != nil {
		return err
	}
	if err := accounts(); err != nil {
		return err
	}
	for i, d := range j.Disks {
		if d.At != "/" {
			if err := mountDisk(i, d.At); err != nil {
				return err
			}
		}
	}
	if err := network(j.Network); err != nil {
		return err
	}
	if err := cgroups(j.Cgroup); err != nil {
		return err
	}
	for _, d := range j.Dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return admit(j)
}

// admit lets everyone at what was packed, which may come from below a home that
// is root's alone, and gives an ordinary user the directories that the program
// writes to.
func admit(j *job) error {
	for _, p := range slices.Concat(j.Copy, j.Dirs) {
		for dir := filepath.Dir(p); dir != "/"; dir = filepath.Dir(dir) {
			st, err := os.Stat(dir)
			if err != nil {
				return err
			}
			if err := os.Chmod(dir, st.Mode()|0o111); err != nil {
				return err
			}
		}
	}
	for _, d := range j.Dirs {
		if !j.User {
			break
		}
		if err := os.Chown(d, ordinary, ordinary); err != nil {
			return err
		}
	}
	return nil
}

// makeRoot makes a root that pivot_root(2) may leave: the kernel's own first
// root cannot be moved, a mount on top of it can.
func makeRoot(j *job) error {
	root := slices.IndexFunc(j.Disks, func(d mount) bool { return d.At == "/" })
	const at = "/vm/root"
	if root < 0 {
		if err := guest.MountAt("/", at, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	} else {
		if err := mountDisk(root, at); err != nil {
			return err
		}
		for _, p := range j.Copy {
			if err := copyTree(p, at+p); err != nil {
				return fmt.Errorf("copy %s to the root disk: %w", p, err)
			}
		}
	}
	return guest.Enter(at)
}

// mountDisk mounts disk number i: ext4 itself, as what is written to it is
// thrown away, and read-only formats below a layer in memory.
func mountDisk(i int, at string) error {
	dev := "/dev/vd" + string(rune('a'+i))
	if err := guest.Await(dev, func() bool { _, err := os.Stat(dev); return err == nil }); err != nil {
		return err
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	ext4 := unix.Mount(dev, at, "ext4", 0, "")
	if ext4 == nil {
		return nil
	}
	lower := "/vm/disk" + strconv.Itoa(i)
	if err := os.MkdirAll(lower, 0o755); err != nil {
		return err
	}
	var tried []string
	for _, fstype := range []string{"erofs", "squashfs"} {
		err := unix.Mount(dev, lower, fstype, unix.MS_RDONLY, "")
		if err != nil {
			tried = append(tried, fstype+": "+err.Error())
			continue
		}
		layer := "/vm/layer" + strconv.Itoa(i)
		if err := guest.MountAt("tmpfs", layer, "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
		if err := errors.Join(os.Mkdir(layer+"/up", 0o755), os.Mkdir(layer+"/work", 0o755)); err != nil {
			return err
		}
		return guest.MountAt("overlay", at, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/up,workdir=%s/work", lower, layer, layer))
	}
	return fmt.Errorf("disk %d holds no file system that this guest knows: ext4: %w; %s", i+1, ext4, strings.Join(tried, "; "))
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(path, from)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			_ = os.Remove(target)
			return os.Symlink(link, target)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		st := info.Sys().(*syscall.Stat_t)
		return errors.Join(err, out.Close(), os.Chmod(target, info.Mode().Perm()), os.Chown(target, int(st.Uid), int(st.Gid)))
	})
}

// accounts names root and the ordinary user, where the root has no names yet.
func accounts() error {
	for path, lines := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
		"/etc/group":  "root:x:0:\ntty:x:5:\nuser:x:1000:\n",
		"/etc/hosts":  "127.0.0.1 localhost\n::1 localhost\n",
	} {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for line := range strings.Lines(lines) {
			if name, _, _ := strings.Cut(line, ":"); !strings.Contains("\n"+string(b), "\n"+name+":") {
				b = append(b, line...)
			}
		}
		if err := errors.Join(os.MkdirAll("/etc", 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			return err
		}
	}
	for dir, owner := range map[string]int{"/root": 0, "/home/user": ordinary, "/run/user/1000": ordinary} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o700), os.Chown(dir, owner, owner)); err != nil {
			return err
		}
	}
	return nil
}
