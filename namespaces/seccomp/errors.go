package seccomp

import "errors"

// ErrArch says that there is no syscall table for an architecture. The way out
// is a backend that does not filter calls on this machine.
var ErrArch = errors.New("no syscall table for this architecture (x86_64 and aarch64 have one)")

// ErrPolicy says that a [Policy] changed by hand contradicts itself.
var ErrPolicy = errors.New("invalid policy")
