package sandbox

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sandboxd/rootfs"
	"sandboxd/spawn"
)

// pretended is a backend on a host that is not at hand.
type pretended struct {
	spawn.Backend
	probes int
	why    error // it does not work
}

func (p *pretended) Probe(context.Context) spawn.Features {
	p.probes++
	return spawn.Features{spawn.UserNS: p.why, spawn.Landlock: errors.New("optional")}
}

func (p *pretended) Check(r *spawn.Request) error {
	if c, ok := p.Backend.(interface{ Check(*spawn.Request) error }); ok {
		return c.Check(r)
	}
	return nil
}

// pretend is a host on which backends do not work for the reasons given.
func pretend(native, process error) *Host {
	h := bare()
	h.backends["native"] = &pretended{Backend: h.backends["native"], why: native}
	h.backends["process"] = &pretended{Backend: h.backends["process"], why: process}
	h.backends["container"] = &pretended{Backend: h.backends["container"], why: errors.New("no helper")}
	h.backends["gvisor"] = &pretended{Backend: h.backends["gvisor"], why: errors.New("no runsc")}
	h.backends["microvm"] = &pretended{Backend: h.backends["microvm"], why: errors.New("no QEMU")}
	return h
}

// ubuntu is what a gate says where namespaces are refused.
var ubuntu = &spawn.Gate{
	Feature: spawn.UserNS, Observed: "clone: permission denied; /proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1",
	Remedy: "install a profile that allows userns for sandboxd",
}

func TestAuto(t *testing.T) {
	disk := Limits{Disk: 1 << 20}
	for name, c := range map[string]struct {
		host    *Host
		spec    Spec
		backend string
		passed  string // words of why not the cheaper ones
		why     string
	}{
		"cheapest":                 {pretend(nil, nil), Spec{Isolation: FloorProcess}, "process", "", "cheapest that reaches process and holds all"},
		"floor":                    {pretend(nil, nil), Spec{Isolation: FloorNamespace}, "native", "process: it reaches process only", "reaches namespace"},
		"never less than default":  {pretend(nil, nil), Spec{Backend: Auto}, "native", "process: it reaches process only", "reaches namespace"},
		"a limit that it lacks":    {pretend(nil, nil), Spec{Backend: Auto, Isolation: FloorProcess, Limits: disk}, "native", "process: disk: disk-limit", "all that was asked for"},
		"a mount":                  {pretend(nil, nil), Spec{Isolation: FloorProcess, Mounts: []rootfs.Mount{{Source: "/usr", Target: "/data"}}}, "native", "process: mountns: ", ""},
		"a user":                   {pretend(nil, nil), Spec{Isolation: FloorProcess, User: &User{1, 1}}, "native", "process: userns: ", ""},
		"whole before best effort": {pretend(nil, nil), Spec{Isolation: FloorProcess, Limits: disk, BestEffort: true}, "native", "process: disk", "all that was asked for"},
		"best effort":              {pretend(ubuntu, nil), Spec{Isolation: FloorProcess, Limits: disk, BestEffort: true}, "process", "", "none holds all"},
		"broken":                   {pretend(nil, errors.New("no memfd")), Spec{Isolation: FloorProcess}, "native", "process: no memfd", ""},
		"named":                    {pretend(ubuntu, nil), Spec{Backend: "native", Isolation: FloorProcess}, "native", "", "it was named"},
		"default":                  {pretend(ubuntu, nil), Spec{}, "native", "", "it is the default"},
	} {
		c.spec.Argv = []string{"true"}
		r, err := c.host.resolve(c.spec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var passed []string
		for _, p := range r.choice.Passed {
			passed = append(passed, p.Backend+": "+p.Reason)
		}
		got := strings.Join(passed, "; ")
		if r.backend.Name() != c.backend || !strings.Contains(r.choice.Why, c.why) || !strings.HasPrefix(got, c.passed) || c.passed == "" && got != "" || strings.Contains(got, "--best-effort") {
			t.Errorf("%s: %s, passed %q: %+v", name, r.backend.Name(), got, r.choice)
		}
		if r.spec.BestEffort != (name == "best effort") {
			t.Errorf("%s: best effort is %v", name, r.spec.BestEffort)
		}
	}
}

// What no backend holds is refused with what was seen, how to mend it, and what else would do.
func TestNoBackend(t *testing.T) {
	for name, c := range map[string]struct {
		host *Host
		spec Spec
		want string
	}{
		"ubuntu": {pretend(ubuntu, nil), Spec{Backend: Auto}, `no backend here reaches isolation namespace and holds what was asked for:
  process: it reaches process only
  native: userns: clone: permission denied; /proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1 (install a profile that allows userns for sandboxd)
  container: no helper
  gvisor: no runsc
  microvm: no QEMU
what else would serve:
  --isolation process, which the process backend reaches here with all that was asked for`},
		"nothing works": {pretend(ubuntu, errors.New("no memfd")), Spec{Isolation: FloorProcess}, `no backend here reaches isolation process and holds what was asked for:
  process: no memfd
  native: userns: clone: permission denied; /proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1 (install a profile that allows userns for sandboxd)
  container: no helper
  gvisor: no runsc
  microvm: no QEMU
what else would serve:
  another host, or this one mended: sandboxd doctor says how`},
		"kernel": {pretend(nil, nil), Spec{Isolation: FloorKernel}, `no backend here reaches isolation kernel and holds what was asked for:
  process: it reaches process only
  native: it reaches namespace only
  container: it reaches namespace only
  gvisor: no runsc
  microvm: no QEMU
what else would serve:
  --isolation namespace, which the native backend reaches here with all that was asked for
  a kernel of its own for one program, without limits and report: sandboxd vm run -- PROGRAM`},
		"named": {pretend(nil, nil), Spec{Backend: "process", Isolation: FloorNamespace}, `the process backend does not reach isolation namespace:
  process: it reaches process only
what else would serve:
  --isolation namespace, which the native backend reaches here with all that was asked for`},
		"named, and not here": {pretend(ubuntu, nil), Spec{Backend: "native", Isolation: FloorVM, Limits: Limits{Memory: 1 << 20}}, `the native backend does not reach isolation vm:
  native: it reaches namespace only
what else would serve:
  a kernel of its own for one program, without limits and report: sandboxd vm run -- PROGRAM`},
	} {
		c.spec.Argv = []string{"true"}
		_, err := c.host.resolve(c.spec)
		if _, ok := errors.AsType[*NoBackendError](err); !ok || !errors.Is(err, ErrUnenforceable) || err.Error() != c.want {
			t.Errorf("%s: got\n%v\nwant\n%s", name, err, c.want)
		}
	}
	// What is wrong with the Spec is said as such, whatever the backend.
	for _, s := range []Spec{{Argv: []string{"true"}, Isolation: "namespaces"}, {Isolation: FloorProcess}, {Argv: []string{"true"}, Isolation: FloorProcess, Dir: "x"}, {Argv: []string{"true"}, Backend: "container?"}} {
		if _, err := pretend(nil, nil).resolve(s); !errors.Is(err, ErrSpec) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// A host probes a backend once, and for auto only; Explain never does.
func TestProbesOnce(t *testing.T) {
	h := pretend(nil, nil)
	n := h.backends["native"].(*pretended)
	for _, s := range []Spec{{}, {Backend: "native", Isolation: FloorNamespace}} {
		s.Argv = []string{"true"}
		if _, err := h.resolve(s); err != nil || n.probes != 0 {
			t.Errorf("%v, %d probes", err, n.probes)
		}
	}
	for range 3 {
		if _, err := h.resolve(Spec{Argv: []string{"true"}, Backend: Auto}); err != nil || n.probes != 1 {
			t.Errorf("%v, %d probes", err, n.probes)
		}
	}
	e, err := Explain(Spec{Argv: []string{"true"}, Isolation: FloorProcess}, Options{Only: &Spec{}})
	if err != nil || e.Backend != "process" || !strings.Contains(e.Choice.Why, "only a start tells") {
		t.Errorf("explain: %v, %+v", err, e)
	}
}

// The ladder names every backend, each once, and climbs.
func TestLadder(t *testing.T) {
	h := bare()
	if len(ladder) != len(h.backends) {
		t.Errorf("%d rungs for %d backends", len(ladder), len(h.backends))
	}
	for i, l := range ladder {
		if h.backends[l.name] == nil || Reaches(l.name) != l.is || i > 0 && !l.is.reaches(ladder[i-1].is) {
			t.Errorf("rung %+v", l)
		}
	}
}
