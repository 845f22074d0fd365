package integration

import (
	"strings"
	"testing"

	"sandboxd/sandbox"
	"sandboxd/spawn/microvm"
	"sandboxd/vm/debian"
)

// Programs in a machine of their own: what they are told, and what the report says. An ordinary
// user's are spawn/microvm's to test: root's cache is nobody else's to read.
func TestMachine(t *testing.T) {
	c := asRoot(t)
	program(t, "/usr/bin/python3", "python3")
	if err := microvm.Fetch(t.Context(), t.Output()); err != nil {
		t.Fatal(err)
	}
	cache, err := debian.DefaultCache()
	if err != nil {
		t.Fatal(err)
	}
	run := func(flags string, argv ...string) *result {
		t.Helper()
		r := c.prepare(t, flags, argv...)
		r.Env = append(r.Env, "SANDBOXD_VM_CACHE="+cache.Dir)
		return r.run(t)
	}
	res := run("--backend microvm --cpus 1", "python3", "-c", "import os; print(os.uname().release, 6*7)")
	res.want(t, 0, sandbox.Exited)
	release, rest, _ := strings.Cut(res.stdout, " ")
	if rest != "42\n" || res.report == nil {
		t.Fatalf("stdout %q%s", res.stdout, res.tail())
	}
	if i := res.report.Isolation; res.report.Choice.Isolation != sandbox.FloorVM || !strings.HasSuffix(i.Machine, "Linux "+release) || !strings.Contains(i.Machine, ", emulated (") && !strings.Contains(i.Machine, ", KVM;") || !res.missing("read-back") {
		t.Errorf("the kernel is %q, and the report says %+v, %+v", release, res.report.Choice, i)
	}
	// It is the guest that runs out of memory. None of the programs in hostile: to be sure that they are in a
	// sandbox they compare namespaces with the host's, and another kernel may give those the same numbers.
	res = run("--isolation vm --memory 384m --cpus 1", "python3", "-c", "[b'%d' % i * (1 << 19) for i in range(1024)]")
	res.want(t, 137, sandbox.OOM)
	if res.report != nil && (res.report.Backend != "microvm" || res.report.Usage.MemoryPeak > 384<<20) {
		t.Errorf("backend %s, peak %d", res.report.Backend, res.report.Usage.MemoryPeak)
	}
	run("--backend microvm --memory 64m", "true").refused(t, "memory", "288m")
	run("--backend microvm --network host", "true").refused(t, "netns", "--backend native")
}
