package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sandboxd/spawn"
	"sandboxd/vm"
)

// How long a guest may take to its program: far more than any does, and less
// than for ever. Emulation on a busy host is slow. A KVM that does not work,
// such as one within another hypervisor, may hang.
const (
	bootTimeout = 5 * time.Minute
	kvmTimeout  = 90 * time.Second
)

// hardware starts a machine by KVM's device where that works, and emulated where
// there is none, and then why. A guest that does not boot by KVM is booted once
// more without, and if that helps, so are all others.
func (b *Backend) hardware(ctx context.Context, device *os.File, why string, start func(_ context.Context, device *os.File, why string) (spawn.Process, error)) (spawn.Process, error) {
	within := func(limit time.Duration, device *os.File, why string) (spawn.Process, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest did not start its program within %v", limit))
		defer cancel()
		return start(ctx, device, why)
	}
	if device == nil {
		return within(bootTimeout, nil, why)
	}
	defer device.Close()
	p, err := within(kvmTimeout, device, "")
	if _, step := errors.AsType[*spawn.StepError](err); !errors.Is(err, spawn.ErrBoot) || step || ctx.Err() != nil {
		return p, err
	}
	why = "a guest does not boot with KVM: " + err.Error()
	if p, err = within(bootTimeout, nil, why); err == nil {
		b.mu.Lock()
		b.noKVM = why
		b.mu.Unlock()
	}
	return p, err
}

// kvm opens /dev/kvm where a guest may run by it; nil: why not. It is opened
// here, for QEMU's sandbox has no such device, and its user may not have the group.
func (b *Backend) kvm() (*os.File, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.noKVM != "" {
		return nil, b.noKVM
	}
	if usable, why := vm.KVM(); !usable {
		return nil, why
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return nil, err.Error()
	}
	return f, ""
}
