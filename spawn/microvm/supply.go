package microvm

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"sandboxd/spawn"
	"sandboxd/vm"
	"sandboxd/vm/debian"
	"sandboxd/vm/guest"
)

// KernelName is that of the kernel in the cache of vm/debian: one with 9p, by
// which a guest reads its root.
const KernelName = "6.1-generic"

// Program is the name of the program that is monitor and guest.
const Program = "sandboxd"

// supply is what a machine is made of, as this host has it.
type supply struct {
	*Backend
	program        string // of monitor and guest
	qemuDir        string // the directory of all that QEMU is
	qemu, data     []string
	image, modules string // of the kernel, whose uname -r says release
	release        string
}

// Fetch puts into the cache what Start needs.
func Fetch(ctx context.Context, progress io.Writer) error {
	cache, err := debian.DefaultCache()
	if err == nil {
		_, _, err = cache.QEMU(ctx, progress)
	}
	if err == nil {
		_, _, err = cache.Kernel(ctx, KernelName, progress)
	}
	return err
}

// Usable says why this backend cannot start anything here, without trying: a *spawn.Gate, or nil.
func (b *Backend) Usable() error {
	_, err := b.supply()
	return err
}

// Parts are the files that it is made of besides the running program.
func (b *Backend) Parts() ([]string, error) {
	s, err := b.supply()
	if err != nil {
		return nil, err
	}
	return []string{s.program, s.qemuDir, s.image, s.modules}, nil
}

func (b *Backend) supply() (*supply, error) {
	s := &supply{Backend: b}
	if runtime.GOARCH != "amd64" {
		return nil, &spawn.Gate{Feature: spawn.VMM, Observed: "unsupported: the pinned QEMU and kernel are amd64's, and this is " + runtime.GOARCH, Remedy: "use --backend native"}
	}
	cache, err := debian.DefaultCache()
	if b.options.Cache != "" {
		cache.Dir, err = b.options.Cache, nil
	}
	if err != nil {
		return nil, &spawn.Gate{Feature: spawn.VMM, Observed: err.Error()}
	}
	cache.Offline = true
	if s.qemu, s.data, err = cache.QEMU(context.Background(), io.Discard); err != nil {
		return nil, missing(spawn.VMM, err)
	}
	rel, err := filepath.Rel(cache.Dir, s.qemu[0])
	if err != nil {
		return nil, missing(spawn.VMM, err)
	}
	s.qemuDir = filepath.Join(cache.Dir, strings.Split(rel, "/")[0])
	if err := s.kernel(cache); err != nil {
		return nil, err
	}
	if s.program = b.options.Program; s.program == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, programGate(err)
		}
		s.program = filepath.Join(filepath.Dir(self), Program)
	}
	if err := static(s.program); err != nil {
		return nil, programGate(err)
	}
	return s, nil
}

// kernel finds the guest's: the one that was named, or that of the cache.
func (s *supply) kernel(cache debian.Cache) (err error) {
	s.image, s.modules = s.options.Kernel, s.options.Modules
	switch {
	case s.image == "" && s.modules == "":
		s.image, s.modules, err = cache.Kernel(context.Background(), KernelName, io.Discard)
		if err == nil {
			s.release, err = vm.Release(s.image)
		}
		if err != nil {
			return missing(spawn.GuestKernel, err)
		}
		return nil
	case s.image == "":
		err = fmt.Errorf("modules are named, %s, and no kernel", s.modules)
	default:
		s.release, err = vm.Release(s.image)
	}
	if s.modules == "" {
		s.modules = filepath.Join("/lib/modules", s.release)
	}
	if err == nil {
		err = shares(s.modules)
	}
	if err != nil {
		return &spawn.Gate{Feature: spawn.GuestKernel, Observed: err.Error(), Remedy: "name a bzImage by --vm-kernel and the directory of its modules by --vm-modules, or neither"}
	}
	return nil
}

// shares refuses modules with which a guest would not see its root: without 9p,
// or compressed, for the monitor's sandbox has no program that unpacks them.
func shares(modules string) error {
	if _, err := os.Stat(filepath.Join(modules, "kernel")); err != nil {
		return err
	}
	found, _ := filepath.Glob(filepath.Join(modules, "kernel/fs/9p/9p.ko*"))
	builtin, err := os.ReadFile(filepath.Join(modules, "modules.builtin"))
	switch {
	case len(found) > 0 && filepath.Ext(found[0]) != ".ko":
		return fmt.Errorf("%s is compressed: name a copy of the directory in which all modules are unpacked (xz -d, zstd -d, gzip -d)", found[0])
	case len(found) == 0 && err == nil && !strings.Contains(string(builtin), "/9p.ko"):
		return fmt.Errorf("%s has no 9p, by which a guest sees its root; Debian's kernels but the cloud ones do", modules)
	}
	return nil
}

// static refuses what a guest could not start.
func static(program string) error {
	st, err := os.Stat(program)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", program)
	}
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("%s is not a program: %w", program, err)
	}
	defer f.Close()
	if !guest.Static(f) {
		return fmt.Errorf("%s is linked dynamically, and a guest has no libraries", program)
	}
	return nil
}

func missing(f spawn.Feature, err error) error {
	g := &spawn.Gate{Feature: f, Observed: err.Error()}
	if errors.Is(err, debian.ErrMissing) {
		g.Remedy = "run `sandboxd vm fetch`, once; SANDBOXD_VM_CACHE names another cache"
	}
	return g
}

func programGate(err error) error {
	return &spawn.Gate{
		Feature: spawn.VMM, Observed: err.Error(),
		Remedy: "build sandboxd statically (CGO_ENABLED=0) and put it beside the program that uses it, or name it (sandbox.Options)",
	}
}

// machine says for people how a guest runs: by KVM, or why it is emulated.
func (s *supply) machine(why string) string {
	how := "KVM"
	if why != "" {
		how = "emulated (" + why + ")"
	}
	version, _, _ := strings.Cut(debian.Version("qemu-system-x86"), "+")
	_, version, _ = strings.Cut(version, ":")
	return fmt.Sprintf("QEMU %s, %s; Linux %s", version, how, s.release)
}
