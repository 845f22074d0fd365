package seccomp

import (
	"cmp"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

//go:generate go run ./internal/gen

// Arch is a system call ABI as the kernel names it to filters: an AUDIT_ARCH
// constant of <linux/audit.h>. The zero value is no architecture.
type Arch uint32

// The architectures that have a table. An Arch read from a notification may be
// any other value.
const (
	AMD64 Arch = unix.AUDIT_ARCH_X86_64
	ARM64 Arch = unix.AUDIT_ARCH_AARCH64
)

// x32Bit marks the numbers of the x32 ABI, which shares AUDIT_ARCH_X86_64
// (arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

// table is the generated knowledge about one architecture. All of it is laid
// out by the linker, nothing is built when a program starts.
type table struct {
	newest uint16   // highest number that moby's profile allows
	allow  []uint16 // ascending
	byName []uint16 // numbers in the order of their names
	names  []string // by number, "" in gaps
}

// Native returns the architecture this program was built for, or 0 where this
// package has no table for it.
func Native() Arch {
	switch runtime.GOARCH {
	case "amd64":
		return AMD64
	case "arm64":
		return ARM64
	}
	return 0
}

func (a Arch) table() *table {
	switch a {
	case AMD64:
		return &amd64
	case ARM64:
		return &arm64
	}
	return nil
}

// String returns the kernel's name of the ABI, or the constant in hexadecimal.
func (a Arch) String() string {
	switch a {
	case AMD64:
		return "x86_64"
	case ARM64:
		return "aarch64"
	case unix.AUDIT_ARCH_I386:
		return "i386"
	case unix.AUDIT_ARCH_ARM:
		return "arm"
	}
	return "arch-0x" + strconv.FormatUint(uint64(a), 16)
}

// Name returns the name of a system call for reports, such as "ptrace". A
// number without a name, or one of an ABI without a table, is spelled out:
// "syscall 999", "i386 syscall 5", "x32 syscall 1".
func (a Arch) Name(nr int) string {
	t := a.table()
	switch {
	case t == nil:
		return a.String() + " syscall " + strconv.Itoa(nr)
	case nr >= 0 && nr < len(t.names) && t.names[nr] != "":
		return t.names[nr]
	case a == AMD64 && nr&x32Bit != 0 && nr > 0:
		return "x32 syscall " + strconv.Itoa(nr&^x32Bit)
	}
	return "syscall " + strconv.Itoa(nr)
}

// Number returns the number of the named system call, false where the
// architecture has none of that name.
func (a Arch) Number(name string) (int, bool) {
	t := a.table()
	if t == nil {
		return 0, false
	}
	i, ok := slices.BinarySearchFunc(t.byName, name, func(nr uint16, name string) int {
		return cmp.Compare(t.names[nr], name)
	})
	if !ok {
		return 0, false
	}
	return int(t.byName[i]), true
}
