package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandboxd/sandbox"
)

// pidsReason is what the report calls a failure after the limit on processes
// was hit: without a cgroup a resource limit holds, and that tells nobody.
func (c *caller) pidsReason() sandbox.Reason {
	if c.delegated() {
		return sandbox.PIDs
	}
	return sandbox.Exited
}

// Memory in whatever shape is counted, and the end is told as what it was.
func TestMemory(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		kinds := [][]string{
			{"anon", "256"}, {"sysv", "256"}, {"memfd", "256"}, {"file", "256", "/tmp/hog"}, {"file", "256", "/dev/shm/hog"},
		}
		if !c.delegated() {
			c.attack(t, "--memory 64m", "memory", "anon", "1").refused(t, "memory", "cgroup")
			res := c.attack(t, "--memory 64m --best-effort", "memory", "anon", "1")
			res.want(t, 0, sandbox.Exited)
			if !res.missing("memory") {
				t.Errorf("with --best-effort the report does not list memory as missing: %+v", res.report)
			}
			return
		}
		for _, kind := range kinds {
			res := c.attack(t, "--memory 64m --disk 512m --timeout 60s", append([]string{"memory"}, kind...)...)
			res.want(t, 137, sandbox.OOM)
			if res.report != nil && (res.report.Usage.MemoryPeak < 32<<20 || res.report.Usage.MemoryPeak > 65<<20) {
				t.Errorf("memory %v: peak %d bytes", kind, res.report.Usage.MemoryPeak)
			}
		}
		for _, kind := range [][]string{{"anon", "32"}, {"sysv", "32"}, {"file", "32", "/tmp/hog"}} {
			c.attack(t, "--memory 64m", append([]string{"memory"}, kind...)...).want(t, 0, sandbox.Exited)
		}
	})
}

// The cache of a file on a real disk is given back under pressure: slow, not dead.
func TestPageCacheOfADiskIsReclaimed(t *testing.T) {
	c := asRoot(t)
	c.attack(t, "--memory 32m --mount "+c.dir(t)+":/data:rw", "memory", "file", "128", "/data/big").want(t, 0, sandbox.Exited)
}

// The out-of-memory killer may take a child; the report tells it all the same.
func TestMemoryOfAChild(t *testing.T) {
	c := asRoot(t)
	res := c.run(t, "--memory 64m --mount "+hostile+":/hostile", "/bin/sh", "-c", "/hostile/memory anon 256; echo child $?; exit 5")
	if !strings.Contains(res.stdout, "child 137") && res.code != 137 {
		t.Errorf("exit %d%s", res.code, res.tail())
	}
	if res.report == nil || res.report.Exit.Reason != sandbox.OOM {
		t.Errorf("report: %+v", res.report)
	}
}

func TestPIDs(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, bomb := range []string{"fork", "threads"} {
			res := c.attack(t, "--pids-limit 32 --timeout 60s", "procs", bomb)
			res.want(t, 1, c.pidsReason())
			f := strings.Fields(res.stdout)
			if len(f) != 3 || f[2] != "EAGAIN" {
				t.Fatalf("%s bomb: %q", bomb, res.stdout)
			}
			if n, err := strconv.Atoi(strings.TrimSuffix(f[1], ":")); err != nil || n < 24 || n > 31 {
				t.Errorf("--pids-limit 32: the %s bomb had %d children", bomb, n)
			}
			if res.report != nil && res.report.Usage.PIDsPeak > 32 {
				t.Errorf("%s bomb: peak %d", bomb, res.report.Usage.PIDsPeak)
			}
		}
		// The default holds too.
		res := c.attack(t, "--timeout 60s", "procs", "fork")
		if f := strings.Fields(res.stdout); len(f) != 3 || f[2] != "EAGAIN" || len(f[1]) > 4 {
			t.Errorf("the default limit: %q", res.stdout)
		}
	})
}

// Two actors of one user do not share a limit on processes.
func TestPIDsAreEachActorsOwn(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		var all []*running
		release := hold(t)
		for range 2 {
			r := c.prepare(t, "--pids-limit 32 --timeout 60s --mount "+hostile+":/hostile", "/bin/sh", "-c", "/hostile/procs fork; read x")
			r.Stdin = release.in
			startAndAwait(t, r)
			all = append(all, r)
		}
		release.now()
		for _, r := range all {
			out := r.waitLoosely(t)
			var n int
			if _, err := fmt.Sscanf(out.stdout, "forked %d:", &n); err != nil || n < 24 {
				t.Errorf("beside another fork bomb: %q%s", out.stdout, out.tail())
			}
		}
	})
}

func TestTimeout(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, argv := range [][]string{{"procs", "stubborn"}, {"procs", "spin", "8"}, {"procs", "forkloop"}} {
			res := c.attack(t, "--timeout 1s --pids-limit 64", argv...)
			res.want(t, 124, sandbox.Timeout)
			if res.report != nil && res.report.Usage.Wall < time.Second {
				t.Errorf("%v: ended after %v, before its timeout", argv, res.report.Usage.Wall)
			}
		}
		c.run(t, "--timeout 1h", "/bin/true").want(t, 0, sandbox.Exited)
	})
}

// CPU time is of everything in the actor together, and children that have
// ended count too.
func TestCPUTime(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, argv := range [][]string{
			{"/hostile/procs", "spin", "1"},
			{"/hostile/procs", "spin", "8"},
			{"/bin/bash", "-c", "while :; do timeout 0.2 /hostile/procs spin 1; done"},
		} {
			res := c.run(t, "--cpu-time 1s --timeout 60s --mount "+hostile+":/hostile", argv...)
			if res.code == 125 && !c.delegated() {
				res.refused(t, "cpu")
				continue
			}
			if res.report == nil || res.report.Exit.Reason != sandbox.CPUTime || res.code == 0 {
				t.Errorf("%v: exit %d%s", argv, res.code, res.tail())
				continue
			}
			if used := res.report.Usage.User + res.report.Usage.System; used < 900*time.Millisecond || used > 3*time.Second {
				t.Errorf("%v: --cpu-time 1s, but it used %v", argv, used)
			}
		}
		if c.delegated() { // sleep costs none
			c.run(t, "--cpu-time 500ms --timeout 60s", "/bin/sleep", "1").want(t, 0, sandbox.Exited)
		}
	})
}

func TestCPUs(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.attack(t, "--cpus 0.05 --timeout 2s", "procs", "spin", "4")
		if !c.delegated() {
			res.refused(t, "cpu", "cgroup")
			best := c.attack(t, "--cpus 0.05 --timeout 200ms --best-effort", "procs", "spin", "1")
			if best.want(t, 124, sandbox.Timeout); !best.missing("cpu") {
				t.Errorf("with --best-effort the report does not list cpu as missing: %+v", best.report)
			}
			return
		}
		res.want(t, 124, sandbox.Timeout)
		if res.report != nil {
			used, wall := res.report.Usage.User+res.report.Usage.System, res.report.Usage.Wall
			if used > wall/8 || used < wall/100 { // so little that a busy machine gives more
				t.Errorf("--cpus 0.05: used %v in %v", used, wall)
			}
		}
	})
}

func TestCPUSet(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for set, want := range map[string]string{"0": "cpus: 1\n", fmt.Sprintf("0-%d", runtime.NumCPU()-1): fmt.Sprintf("cpus: %d\n", runtime.NumCPU())} {
			res := c.attack(t, "--cpuset-cpus "+set, "identity")
			if res.want(t, 0, sandbox.Exited); !strings.Contains(res.stdout, want) {
				t.Errorf("--cpuset-cpus %s: want %q in %q", set, want, res.stdout)
			}
		}
		// It cannot be left again.
		res := c.run(t, "--cpuset-cpus 0", "/bin/sh", "-c", "taskset -p ff $$; nproc")
		if !strings.HasSuffix(res.stdout, "\n1\n") && res.stdout != "1\n" {
			t.Errorf("taskset inside --cpuset-cpus 0: %q", res.stdout)
		}
	})
}

func TestDisk(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		places := []string{"/tmp", "/home/sandbox", "/dev/shm"} // /var/tmp is /tmp
		res := c.attack(t, "--disk 16m --timeout 60s", append([]string{"files", "fill", "256"}, places...)...)
		res.want(t, 1, sandbox.Disk)
		var kib int
		if _, err := fmt.Sscanf(res.stdout, "wrote %d KiB: ENOSPC", &kib); err != nil || kib < 12<<10 || kib > 16<<10 {
			t.Errorf("--disk 16m: %q", res.stdout)
		}
		if res.report != nil && (res.report.Usage.DiskBytes < 12<<20 || res.report.Usage.DiskBytes > 16<<20) {
			t.Errorf("disk_bytes: %d", res.report.Usage.DiskBytes)
		}
		res = c.attack(t, "--disk-inodes 1000 --timeout 60s", append([]string{"files", "inodes", "100000"}, places...)...)
		res.want(t, 1, sandbox.Disk)
		var made int
		if _, err := fmt.Sscanf(res.stdout, "made %d: ENOSPC", &made); err != nil || made < 800 || made > 1000 {
			t.Errorf("--disk-inodes 1000: %q", res.stdout)
		}
	})
}

// Holes cost nothing, but no file grows beyond the limit on its size.
func TestFileSize(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		c.attack(t, "--disk 16m", "files", "sparse", "1000000000000", "/tmp/hole").want(t, 0, sandbox.Exited)
		for _, argv := range [][]string{{"files", "sparse", "2000000", "/tmp/hole"}, {"files", "large", "4", "/tmp/large"}} {
			res := c.attack(t, "--file-size 1m", argv...)
			if res.want(t, 128+25, sandbox.Disk); res.report != nil && res.report.Exit.Signal != "SIGXFSZ" {
				t.Errorf("%v: signal %q", argv, res.report.Exit.Signal)
			}
		}
		// A mount of the user's is not above it.
		d := c.dir(t)
		c.attack(t, "--file-size 1m --mount "+d+":/data:rw", "files", "large", "4", "/data/large").want(t, 128+25, sandbox.Disk)
		if st, err := os.Stat(filepath.Join(d, "large")); err != nil || st.Size() > 1<<20 {
			t.Errorf("on the host: %v, %v", st, err)
		}
	})
}

func TestUlimits(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.attack(t, "--ulimit nofile=64:64", "files", "open", "100000")
		if res.want(t, 1, sandbox.Exited); res.stdout != "opened 61: EMFILE\n" {
			t.Errorf("--ulimit nofile=64:64: %q", res.stdout)
		}
		res = c.attack(t, "", "files", "open", "100000")
		if res.want(t, 1, sandbox.Exited); res.stdout != "opened 1021: EMFILE\n" {
			t.Errorf("default nofile: %q", res.stdout)
		}
		res = c.run(t, "--ulimit nofile=64:128 --ulimit core=0 --ulimit stack=1048576", "/bin/bash", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Hc; ulimit -s; ulimit -n 129")
		if !strings.HasPrefix(res.stdout, "64\n128\n0\n1024\n") || res.code == 0 {
			t.Errorf("ulimits inside: %q, exit %d", res.stdout, res.code)
		}
	})
}

func TestOutput(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, kind := range []string{"lines", "line", "stderr", "both"} {
			res := c.attack(t, "--output-limit 1m --timeout 60s --quiet", "flood", kind, "1000000000")
			if res.report == nil || res.report.Exit.Reason != sandbox.Output || res.code == 0 {
				t.Errorf("flood %s: exit %d%s", kind, res.code, res.tail())
			}
			if n := len(res.stdout) + len(res.stderr); n != 1<<20 {
				t.Errorf("flood %s: %d bytes came out, want all of the first MiB and no more", kind, n)
			}
		}
		res := c.attack(t, "--output-limit 1m", "flood", "lines", "1048576")
		if res.want(t, 0, sandbox.Exited); len(res.stdout) != 1<<20 {
			t.Errorf("exactly the limit: %d bytes came out", len(res.stdout))
		}
	})
}

// The script language's bombs, all limits at once.
func TestPythonBombs(t *testing.T) {
	program(t, "/usr/bin/python3", "python3")
	everyone(t, func(t *testing.T, c *caller) {
		flags := "--timeout 20s --pids-limit 64 --disk 16m --mount " + hostile + ":/hostile"
		for _, bomb := range []string{"fork", "threads"} {
			res := c.run(t, flags, "/usr/bin/python3", "/hostile/bomb.py", bomb)
			if res.want(t, 1, c.pidsReason()); !strings.Contains(res.stderr, "Resource temporarily") && !strings.Contains(res.stderr, "can't start new thread") {
				t.Errorf("%s: %q", bomb, res.stderr)
			}
		}
		if c.delegated() {
			c.run(t, flags+" --memory 64m", "/usr/bin/python3", "/hostile/bomb.py", "memory").want(t, 137, sandbox.OOM)
		}
	})
}
