package sandbox

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// A backend that worked is not probed again until the machine or the program
// is another; one that did not is, by each Host.
func TestWorksOnce(t *testing.T) {
	h, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	process := h.backends["process"]
	mark, value := h.mark(process)
	if !strings.Contains(mark, "works-process") || strings.Count(value, "\n") != 2 {
		t.Fatalf("mark %q: %q", mark, value)
	}
	before, err := os.ReadFile(mark)
	defer func() {
		if err != nil {
			_ = os.Remove(mark)
		} else if err := os.WriteFile(mark, before, 0o600); err != nil {
			t.Error(err)
		}
	}()
	_ = os.Remove(mark)
	for _, b := range []string{"container", "gvisor", "microvm"} {
		if _, ok := h.backends[b].(interface{ Parts() ([]string, error) }); !ok {
			t.Errorf("of %s it is not known what it is made of", b)
		}
	}
	look := func(why error, probes int) {
		t.Helper()
		b := &pretended{Backend: process, why: why}
		other := &Host{lease: h.lease}
		for range 2 {
			if err := other.works(b); !errors.Is(err, why) {
				t.Errorf("works: %v, want %v", err, why)
			}
		}
		if b.probes != probes {
			t.Errorf("probed %d times, want %d", b.probes, probes)
		}
	}
	look(errors.New("no memfd"), 1)
	look(ubuntu, 1)
	look(nil, 1)
	look(nil, 0)
	if got, err := os.ReadFile(mark); err != nil || string(got) != value {
		t.Errorf("the mark says %q, %v", got, err)
	}
	if err := os.WriteFile(mark, []byte(strings.Replace(value, value[:8], "another ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	look(nil, 1) // since then the machine was started anew
	look(nil, 0)
}
