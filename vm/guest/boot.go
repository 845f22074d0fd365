// Package guest is what the first process of a guest does, whatever it is for:
// the kernel's file systems, modules, a root that can be left, ports; and the
// frames in which it talks to the host.
//
//	err := guest.KernelMounts()
//	err = guest.LoadModules(names)
//	f, err := guest.OpenPort("sandboxd.vmrun")
//	c := &guest.Conn{RW: f}
//	kind, body, err := c.Receive()
//
// The frames are read on both sides, so their reader believes nothing.
//
// Non-goals: what runs in the guest and what the frames mean (vm/vmrun,
// spawn/microvm), booting it (vm).
package guest

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/vm/initramfs"
)

// End ends the machine, from process 1. It returns only where it cannot.
func End() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// Uptime is the time since the kernel began.
func Uptime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return time.Duration(t.Nano())
}

// Release is that of the guest's kernel.
func Release() (string, error) {
	var u unix.Utsname
	err := unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:]), err
}

// MountAt mounts a file system at a directory that it makes.
func MountAt(source, target, fstype string, flags uintptr, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", fstype, target, err)
	}
	return nil
}

// Safe are the flags of mounts whose files are only looked at.
const Safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// KernelMounts mounts what the kernel offers: /proc, /sys and /dev.
func KernelMounts() error {
	for _, m := range []struct {
		fstype, at string
		flags      uintptr
		options    string
	}{
		{"proc", "/proc", Safe, ""},
		{"sysfs", "/sys", Safe, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
	} {
		if err := MountAt(m.fstype, m.at, m.fstype, m.flags, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}

const (
	moduleDir = "vm/modules"
	initPath  = "vm/init"
)

// Command are the words of the kernel's command line that start what AddInit packed, with args.
func Command(args ...string) []string {
	return append([]string{"rdinit=/" + initPath, "--"}, args...)
}

// AddInit packs the first process, the file init, and a console for it.
func AddInit(w *initramfs.Writer, init string) {
	w.Add(initramfs.File{Path: "dev", Mode: unix.S_IFDIR | 0o755})
	w.Add(initramfs.File{Path: "dev/console", Mode: unix.S_IFCHR | 0o600, Device: unix.Mkdev(5, 1)})
	w.Add(initramfs.File{Path: initPath, Mode: 0o755, Source: init})
}

// AddModules packs modules of dir, with what they depend on, for LoadModules of the names that it returns.
func AddModules(w *initramfs.Writer, dir string, modules ...string) (names []string, err error) {
	found, err := initramfs.Modules(dir, modules...)
	if err != nil {
		return nil, err
	}
	for i, m := range found {
		w.Add(initramfs.File{Path: fmt.Sprintf("%s/%02d-%s.ko", moduleDir, i, m.Name), Mode: 0o600, Data: m.Data})
		names = append(names, m.Name)
	}
	return names, nil
}

// LoadModules loads what AddModules packed.
func LoadModules(names []string) error {
	for i, name := range names {
		path := fmt.Sprintf("/%s/%02d-%s.ko", moduleDir, i, name)
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
		if err := os.Remove(path); err != nil { // its memory
			return err
		}
	}
	return nil
}

// patience bounds the waits for devices, whose drivers probe beside us.
const patience = 30 * time.Second

// Await waits for a device.
func Await(what string, there func() bool) error {
	for begin := time.Now(); !there(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begin) > patience {
			return fmt.Errorf("%s did not appear within %s", what, patience)
		}
	}
	return nil
}

// OpenPort waits for the virtio-serial port of that name and opens it.
func OpenPort(name string) (*os.File, error) {
	var found string
	err := Await("virtio-serial port "+name, func() bool {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == name {
				found = filepath.Join("/dev", filepath.Base(filepath.Dir(n)))
				_, err := os.Stat(found)
				return err == nil
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	// Blocking: the port's driver takes whole writes only so.
	fd, err := unix.Open(found, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", found, err)
	}
	return os.NewFile(uintptr(fd), found), nil
}

// Enter makes the mount at dir the root: the kernel's own first root cannot be
// left by pivot_root(2), a mount on top of it can.
func Enter(dir string) error {
	for _, d := range []string{"/proc", "/sys", "/dev"} {
		if err := os.MkdirAll(dir+d, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(d, dir+d, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", d, err)
		}
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// Static tells whether a program needs no libraries, which a guest's first root has not.
func Static(program *elf.File) bool {
	return !slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// Printable is a guest's word, fit to be shown on a terminal.
func Printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) {
			return r
		}
		if r == '\r' {
			return -1
		}
		return '?'
	}, string(b))
}
