package integration

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// seeded makes the random moments of a run repeatable: SANDBOXD_SEED=n.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := int(time.Now().UnixNano())
	if s := os.Getenv("SANDBOXD_SEED"); s != "" {
		seed = mustAtoi(t, s)
	}
	t.Logf("SANDBOXD_SEED=%d", seed)
	return rand.New(rand.NewPCG(uint64(seed), 0))
}

// victims are runs in whose midst sandboxd dies.
var victims = [][]string{
	{"/bin/sleep", "1000"},
	{"/hostile/procs", "stubborn"},
	{"/hostile/procs", "spin", "2"},
	{"/hostile/procs", "forkloop"},
	{"/bin/sh", "-c", "dd if=/dev/zero of=/tmp/x bs=1M count=8 2>&1; setsid sleep 1000 & exec sleep 1000"},
	{"/bin/true"},
}

// hitAtRandom starts victims and sends each sig within its first 30 ms.
func hitAtRandom(t *testing.T, c *caller, sig syscall.Signal, n int, after func(*running)) {
	t.Helper()
	r := seeded(t)
	d := c.dir(t)
	for i := range n {
		flags := "--pids-limit 32 --timeout 60s --mount " + hostile + ":/hostile --mount " + d + ":/data:rw"
		v := c.prepare(t, flags, victims[i%len(victims)]...)
		if err := v.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.Int64N(int64(30 * time.Millisecond))))
		if err := v.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		after(v)
	}
}

// However brutally sandboxd dies, what it ran dies with it, without help; the
// next start removes what the kernel does not.
func TestKilledSupervisorLeavesNothing(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		hitAtRandom(t, c, syscall.SIGKILL, spawntest.Rounds(40, 1000), func(v *running) {
			v.waitLoosely(t)
			awaitNobody(t)
		})
		c.run(t, "", "/bin/true").want(t, 0, sandbox.Exited) // sweeps; the leak check follows
	})
}

// awaitNobody gives the kernel time to kill what is below a sandboxd that did not tidy up.
func awaitNobody(t *testing.T) {
	t.Helper()
	end := time.Now().Add(settle)
	for spawntest.Reap(); len(descendants()) > 0; spawntest.Reap() {
		if time.Now().After(end) {
			t.Fatalf("%v outlive their sandboxd", descendants())
		}
		time.Sleep(time.Millisecond)
	}
}

// A sandboxd that is asked to end tidies up itself.
func TestInterruptedSupervisorTidiesUp(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			hitAtRandom(t, c, sig, spawntest.Rounds(20, 500), func(v *running) {
				// A stubborn program must be asked twice.
				again := time.AfterFunc(500*time.Millisecond, func() { _ = v.Process.Signal(sig); _ = v.Process.Signal(sig) })
				defer again.Stop()
				res := v.waitLoosely(t)
				if v.ProcessState.ExitCode() < 0 { // so early that it caught no signals yet, and had nothing but a launcher
					awaitNobody(t)
					return
				}
				if left := descendants(); len(left) != 0 {
					t.Errorf("left running when sandboxd returned: %v", left)
				}
				if res.code == 0 && !strings.HasSuffix(v.Args[len(v.Args)-1], "true") {
					t.Errorf("%v: exit 0%s", v.Args, res.tail())
				}
			})
		}
	})
}

// The launcher dies, or any process below sandboxd: the run ends, and says how.
func TestKilledLauncherIsTold(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for range spawntest.Rounds(10, 200) {
			v := c.prepare(t, "--timeout 60s", "/bin/sh", "-c", "echo ready; exec sleep 1000")
			startAndAwait(t, v)
			for _, child := range children(t, v.Process.Pid) {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
			res := v.wait(t)
			if res.report == nil || res.report.Exit.Reason != sandbox.Lost || res.code != 125 {
				t.Errorf("exit %d%s", res.code, res.tail())
			}
		}
	})
}

func mustAtoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// children of a process, of all its threads.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil || len(files) == 0 {
		t.Fatal("no children file:", err)
	}
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(b)) {
			pids = append(pids, mustAtoi(t, field))
		}
	}
	return pids
}

// Many at once, of both users, and all are gone at the end.
func TestManyAtOnce(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		var all []*running
		for i := range spawntest.Rounds(16, 100) {
			v := c.prepare(t, "--pids-limit 32 --timeout 60s", "/bin/sh", "-c", "echo "+strconv.Itoa(i)+"; sleep 0.5; exit "+strconv.Itoa(i%100))
			if err := v.Start(); err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
		}
		for i, v := range all {
			res := v.waitLoosely(t)
			if res.want(t, i%100, sandbox.Exited); res.stdout != strconv.Itoa(i)+"\n" {
				t.Errorf("actor %d said %q", i, res.stdout)
			}
		}
	})
}

// A state directory full of other people's rubbish is no reason to fail, and not ours to remove.
func TestForeignStateSurvives(t *testing.T) {
	c := asUser(t)
	dir := filepath.Join(c.home, "run", "sandboxd")
	c.run(t, "", "/bin/true").want(t, 0, sandbox.Exited)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const text = "\x00strange\n/etc\n"
	strange := []string{"README", "lease-x", "4096", "-1", "..."}
	for _, name := range strange {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600), os.Lchown(filepath.Join(dir, name), c.uid, c.uid)); err != nil {
			t.Fatal(err)
		}
	}
	// A dead lease of ours, whose note names what is not.
	victim := c.dir(t)
	dead, link := filepath.Join(dir, "7"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(dead, []byte("/etc\n"+victim+"\n"), 0o600), os.Lchown(dead, c.uid, c.uid), os.Symlink(victim, link)); err != nil {
		t.Fatal(err)
	}
	c.run(t, "", "/bin/true").want(t, 0, sandbox.Exited)
	for _, name := range strange {
		file := filepath.Join(dir, name)
		if b, err := os.ReadFile(file); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		_ = os.Remove(file)
	}
	if to, err := os.Readlink(link); err != nil || to != victim {
		t.Errorf("the link: %q, %v", to, err)
	}
	_ = os.Remove(link)
	for _, d := range []string{"/etc", victim} {
		if _, err := os.Stat(d); err != nil {
			t.Error(err)
		}
	}
	_ = os.Remove(dead) // where the sweep refused it
}

// Network namespaces end asynchronously, and a leaked one shows nowhere but in
// the kernel's own count.
func TestNetworkNamespacesGo(t *testing.T) {
	c := asRoot(t)
	count := func() int {
		b, err := os.ReadFile("/proc/slabinfo")
		if err != nil {
			hosttest.Lack(t, "a readable /proc/slabinfo: %v", err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "net_namespace" {
				return mustAtoi(t, f[1])
			}
		}
		hosttest.Lack(t, "a count of network namespaces in /proc/slabinfo")
		return 0
	}
	const runs = 100
	before := count()
	for range runs {
		c.run(t, "", "/bin/true").want(t, 0, sandbox.Exited)
	}
	now := count()
	for end := time.Now().Add(deadline); now > before+runs/2 && time.Now().Before(end); now = count() {
		time.Sleep(100 * time.Millisecond)
	}
	if now > before+runs/2 { // the count lags, and others make some too
		t.Errorf("%d network namespaces before %d runs, %d afterwards", before, runs, now)
	}
}
