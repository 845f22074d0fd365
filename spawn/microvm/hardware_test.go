package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// A KVM that boots nothing is not asked again once a guest has booted without it;
// a program that cannot start, and a machine that does not boot either way, are not KVM's fault.
func TestKVMFails(t *testing.T) {
	hangs := fmt.Errorf("%w: it hung", spawn.ErrBoot)
	step := fmt.Errorf("%w: %w", spawn.ErrBoot, &spawn.StepError{Step: plan.Exec, Errno: 2})
	for name, c := range map[string]struct {
		by, without error // of a start by KVM, and of one without
		starts      int
		blamed      bool
	}{
		"works":          {nil, errors.New("not asked"), 1, false},
		"hangs":          {hangs, nil, 2, true},
		"nothing boots":  {hangs, hangs, 2, false},
		"no program":     {step, nil, 1, false},
		"not of booting": {errors.New("no cgroup"), nil, 1, false},
	} {
		b, starts := New(Options{}), 0
		defer b.Close()
		device, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.hardware(t.Context(), device, "", func(ctx context.Context, device *os.File, why string) (spawn.Process, error) {
			if _, limited := ctx.Deadline(); !limited {
				t.Errorf("%s: a boot may take for ever", name)
			}
			if starts++; device != nil {
				return nil, c.by
			}
			if !strings.Contains(why, "it hung") {
				t.Errorf("%s: emulated, and the reason is %q", name, why)
			}
			return nil, c.without
		})
		want := c.by
		if c.starts == 2 {
			want = c.without
		}
		if starts != c.starts || !errors.Is(err, want) || want == nil && err != nil || (b.noKVM != "") != c.blamed {
			t.Errorf("%s: %d starts, %v, then %q", name, starts, err, b.noKVM)
		}
		if device.Close() == nil {
			t.Errorf("%s: the device is still open", name)
		}
		if f, why := b.kvm(); c.blamed && (f != nil || !strings.Contains(why, "it hung")) {
			t.Errorf("%s: asked again, %q", name, why)
		}
	}
}
