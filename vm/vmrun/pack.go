package vmrun

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/vm"
	"sandboxd/vm/debian"
	"sandboxd/vm/guest"
	"sandboxd/vm/initramfs"
)

// config is vm.Config, and what else follows from the options.
type config struct {
	vm.Config
	modules string // directory of the kernel's modules; "" is none
	logs    string // directory for consoles that are kept
	verify  func() error
}

// config finds QEMU and the kernel, and opens the disks.
func (r *runner) config(ctx context.Context) (*config, error) {
	cache, err := debian.DefaultCache()
	if err != nil {
		return nil, err
	}
	c := &config{logs: filepath.Join(cache.Dir, "consoles"), verify: cache.Verify}
	c.CPUs, c.Memory, c.Network, c.Ports = r.cpus, r.memory, r.network, []string{port}
	if r.cgroup == cgroupV2 {
		c.Append = []string{"cgroup_no_v1=all"}
	}
	c.Append = append(c.Append, guest.Command(r.guest...)...)
	if r.qemu != "" {
		c.QEMU = []string{r.qemu}
	} else if c.QEMU, c.Data, err = cache.QEMU(ctx, r.errs); err != nil {
		return nil, err
	}
	if strings.Contains(r.kernel, "/") {
		c.Kernel, c.modules = r.kernel, r.modules
	} else if c.Kernel, c.modules, err = cache.Kernel(ctx, r.kernel, r.errs); err != nil {
		return nil, err
	}
	for _, path := range r.disks {
		d, err := os.Open(path)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("--disk: %w", err)
		}
		c.Disks = append(c.Disks, d)
	}
	return c, nil
}

// blame is the damage of the cache, where there is some, else err: what keeps a
// program from beginning is seldom said by the part that is broken.
func (c *config) blame(err error) error {
	if damage := c.verify(); damage != nil {
		return damage
	}
	return err
}

func (c *config) close() {
	for _, d := range c.Disks {
		d.Close()
	}
}

// pack makes the initramfs, in memory, and the job that it holds.
func pack(o *options, init, modules string) (*os.File, *job, error) {
	fd, err := unix.MemfdCreate("initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("initramfs: %w", err)
	}
	f := os.NewFile(uintptr(fd), "initramfs")
	j, err := packInto(f, o, init, modules)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, j, nil
}

func packInto(f *os.File, o *options, init, modules string) (*job, error) {
	j := &o.job
	w := initramfs.NewWriter(f)
	guest.AddInit(w, init)
	j.Modules = nil
	if modules != "" {
		var err error
		if j.Modules, err = guest.AddModules(w, modules, o.load()...); err != nil {
			return nil, err
		}
	}
	j.Copy = nil
	for _, p := range o.pack {
		if err := addTree(w, p.host, p.guest); err != nil {
			return nil, err
		}
		j.Copy = append(j.Copy, p.guest)
	}
	b, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	w.Add(initramfs.File{Path: jobFile, Mode: 0o600, Data: b})
	return j, w.Close()
}

// addTree packs a file or a directory with everything below it but what is
// hidden: .git, .cache and their like are the host's. In a testdata they are
// the test's.
func addTree(w *initramfs.Writer, host, guest string) error {
	return filepath.WalkDir(host, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("pack: %w", err)
		}
		f := initramfs.File{Path: guest + strings.TrimPrefix(path, host), Mode: uint32(info.Mode().Perm())}
		switch {
		case d.Name()[0] == '.' && path != host && !strings.Contains(path, "/testdata/"):
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			f.Mode |= unix.S_IFDIR
		case d.Type() == fs.ModeSymlink && path == host:
			if path, err = filepath.EvalSymlinks(path); err != nil {
				return fmt.Errorf("pack: %w", err)
			}
			return addTree(w, path, guest)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return fmt.Errorf("pack: %w", err)
			}
			f.Mode, f.Data = unix.S_IFLNK|0o777, []byte(target)
		case d.Type().IsRegular():
			f.Source = path
		default:
			return nil // sockets and devices are the host's
		}
		w.Add(f)
		return nil
	})
}

// errDynamic is a program that needs libraries.
var errDynamic = errors.New("is linked dynamically, and the guest has no libraries: build it with CGO_ENABLED=0, or give a root that has them with --disk IMAGE:/")

// staticInit refuses an init that the guest could not start, which is this very program.
func staticInit(path string) error {
	err := static(path)
	if errors.Is(err, errDynamic) {
		return errors.New("this program, which is also the guest's first process, is linked dynamically: build it again with CGO_ENABLED=0")
	}
	return err
}

// static refuses a program that the guest could not start.
func static(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("program: %w", err)
	}
	defer file.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := file.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil // a script; the guest says what is wrong with it
	}
	f, err := elf.NewFile(file)
	if err != nil {
		return fmt.Errorf("program: %s: %w", path, err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("program: %s is built for %s, the guest is x86-64", path, strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
	if !guest.Static(f) {
		return fmt.Errorf("program: %s %w", path, errDynamic)
	}
	return nil
}
