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
// than for ever. Emulation on a busy host is slow, and now and then QEMU breaks an
// assertion of its own, or hangs. A KVM that does not work, such as one within
// another hypervisor, may hang as well.
const (
	kvmTimeout   = 90 * time.Second
	firstTimeout = 2 * time.Minute
	bootTimeout  = 5 * time.Minute
)

// hardware starts a machine by KVM's device where that works, and emulated where
// there is none, and then why. A guest that does not boot by KVM is booted without,
// and if that helps, so are all others. One that does not boot emulated is booted
// once more. No program is started twice: only a guest that was told to starts it,
// and what fails after that is not unbooted.
func (b *Backend) hardware(ctx context.Context, device *os.File, why string, start func(_ context.Context, device *os.File, why string) (spawn.Process, error)) (p spawn.Process, err error) {
	within := func(limit time.Duration) (again bool) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest did not start its program within %v", limit))
		defer cancel()
		p, err = start(ctx, device, why)
		_, again = errors.AsType[unbooted](err)
		return again
	}
	tried := device != nil
	if tried {
		defer device.Close()
		if !within(kvmTimeout) || ctx.Err() != nil {
			return p, err
		}
		device, why = nil, "a guest does not boot with KVM: "+err.Error()
	}
	if within(firstTimeout) && ctx.Err() == nil {
		within(bootTimeout)
	}
	if err == nil && tried && device == nil {
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
	return vm.KVM()
}
