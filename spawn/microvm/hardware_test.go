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
// an emulated machine gets a second try. What is not of booting is nobody's fault but its own.
func TestBoots(t *testing.T) {
	hangs := unbooted{fmt.Errorf("%w: it hung", spawn.ErrBoot)}
	step := fmt.Errorf("%w: %w", spawn.ErrBoot, &spawn.StepError{Step: plan.Exec, Errno: 2})
	other := errors.New("no cgroup")
	for name, c := range map[string]struct {
		kvm    bool
		ends   []error // of one start after the other
		blamed bool
	}{
		"KVM works":             {true, []error{nil}, false},
		"KVM hangs":             {true, []error{hangs, nil}, true},
		"KVM hangs, QEMU once":  {true, []error{hangs, hangs, nil}, true},
		"nothing boots":         {true, []error{hangs, hangs, hangs}, false},
		"no program":            {true, []error{step}, false},
		"not of booting":        {true, []error{other}, false},
		"emulated":              {false, []error{nil}, false},
		"emulated, once not":    {false, []error{hangs, nil}, false},
		"emulated, never":       {false, []error{hangs, hangs}, false},
		"emulated, no program":  {false, []error{step}, false},
		"emulated, then not so": {false, []error{hangs, other}, false},
	} {
		b, starts := New(Options{}), 0
		defer b.Close()
		var device *os.File
		if c.kvm {
			var err error
			if device, err = os.Open(os.DevNull); err != nil {
				t.Fatal(err)
			}
		}
		_, err := b.hardware(t.Context(), device, "", func(ctx context.Context, device *os.File, why string) (spawn.Process, error) {
			if _, limited := ctx.Deadline(); !limited {
				t.Errorf("%s: a boot may take for ever", name)
			}
			if starts++; starts > len(c.ends) {
				t.Fatalf("%s: started %d times", name, starts)
			}
			if byKVM := c.kvm && starts == 1; (device != nil) != byKVM || c.kvm && !byKVM && !strings.Contains(why, "it hung") {
				t.Errorf("%s: start %d is by KVM: %v, %q", name, starts, device != nil, why)
			}
			return nil, c.ends[starts-1]
		})
		if want := c.ends[len(c.ends)-1]; starts != len(c.ends) || !errors.Is(err, want) || (b.noKVM != "") != c.blamed {
			t.Errorf("%s: %d starts, %v, then %q", name, starts, err, b.noKVM)
		}
		if c.kvm && device.Close() == nil {
			t.Errorf("%s: the device is still open", name)
		}
		if f, why := b.kvm(); c.blamed && (f != nil || !strings.Contains(why, "it hung")) {
			t.Errorf("%s: asked again, %q", name, why)
		}
	}
}

// Who has given up gets no second boot.
func TestBootGivenUp(t *testing.T) {
	b, starts := New(Options{}), 0
	defer b.Close()
	ctx, stop := context.WithCancel(t.Context())
	_, err := b.hardware(ctx, nil, "", func(context.Context, *os.File, string) (spawn.Process, error) {
		starts++
		stop()
		return nil, unbooted{spawn.ErrBoot}
	})
	if starts != 1 || !errors.Is(err, spawn.ErrBoot) {
		t.Errorf("%d starts, %v", starts, err)
	}
}
