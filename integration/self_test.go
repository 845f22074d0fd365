package integration

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// Tests of the tests: what keeps the host safe from them, and what they would overlook.

// Whatever is mounted here is not mounted on the machine.
func TestMountsStayHere(t *testing.T) {
	c := asRoot(t)
	d := c.dir(t)
	mountTmpfs(t, d)
	outside, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", os.Getppid()))
	if err != nil || strings.Contains(string(outside), d) {
		t.Errorf("who started the tests sees the mount, or cannot be asked: %v", err)
	}
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("planted", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// A hostile program does nothing while any namespace that matters is the machine's.
func TestHostileProgramsSpareTheHost(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		identity, bomb := filepath.Join(hostile, "identity"), filepath.Join(hostile, "bomb.py")
		for _, argv := range [][]string{
			{identity},
			{"unshare", "--user", "--map-root-user", "--mount", identity},
			{"unshare", "--user", "--map-root-user", "--pid", "--fork", identity},
			{"/usr/bin/python3", bomb, "names", c.home + "/tmp", "1"},
			{"unshare", "--user", "--map-root-user", "--pid", "--fork", "/usr/bin/python3", bomb, "names", c.home + "/tmp", "1"},
		} {
			if out, err := c.exec(argv[0], argv[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(out), "nothing done") {
				t.Errorf("%v: %v: %s", argv, err, out)
			}
		}
	})
	files, err := filepath.Glob("hostile/*.c")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	guarded := regexp.MustCompile(`(?m)^int main\(.*\) \{\n\tguard\(\);$`)
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || !guarded.Match(b) {
			t.Errorf("%s does not begin with guard() (%v)", f, err)
		}
	}
}

// The leak check sees one of each kind, also one that would rather not be seen.
// A descriptor is not among them: it ends with its process, or was inherited by
// the program, which TestNothingIsInherited would tell.
func TestLeakCheckSees(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		plants := map[string]struct {
			root  bool
			plant func(*testing.T)
			key   string
		}{
			"process":     {false, func(t *testing.T) { orphans(t, c, "x) S 1 (y") }, `^processes .*\d+ \(x\) S 1 \(y\)`},
			"file":        {false, func(t *testing.T) { writeFile(t, filepath.Join(c.home, "tmp", "planted")) }, `^file .*/tmp/planted `},
			"shared file": {false, func(t *testing.T) { writeFile(t, "/dev/shm/"+filepath.Base(c.home)) }, `^file /dev/shm/dir-`},
			"state": {false, func(t *testing.T) {
				if err := os.Mkdir(filepath.Join(c.home, "run", "sandboxd"), 0o755); err != nil {
					t.Fatal(err)
				}
				writeFile(t, filepath.Join(c.home, "run", "sandboxd", "7"))
			}, `^state .*/run/sandboxd/7 `},
			"segment": {false, func(t *testing.T) {
				id, err := unix.SysvShmGet(0, 4096, unix.IPC_CREAT|0o600)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })
			}, `^/proc/sysvipc/shm 0 \d+ `},
			"mount": {true, func(t *testing.T) { mountTmpfs(t, c.dir(t)) }, `^/proc/self/mountinfo .* tmpfs planted `},
			"network namespace": {true, func(t *testing.T) {
				file := filepath.Join(c.dir(t), "net")
				writeFile(t, file)
				if out, err := exec.Command("unshare", "--net="+file, "true").CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
			}, `^/proc/self/mountinfo .* net:\[\d+\] .* nsfs `},
		}
		for name, p := range plants {
			t.Run(name, func(t *testing.T) {
				if p.root && !c.root() {
					return
				}
				key := regexp.MustCompile(p.key)
				before := inventory(t, c)
				p.plant(t)
				found := leaks(t, c, before, 100*time.Millisecond)
				for k, detail := range found {
					if key.MatchString(k + " " + detail) {
						return
					}
				}
				t.Errorf("is overlooked; seen: %v", found)
			})
		}
	})
}

// orphans starts a process whose parent is gone, and that for some seconds
// lives on in one child after the other.
func orphans(t *testing.T, c *caller, name string) {
	t.Helper()
	d := c.dir(t)
	bash, err := os.ReadFile("/bin/bash")
	if err == nil {
		err = os.WriteFile(filepath.Join(d, name), bash, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	const script = "n=500; next() { read -t 0.01 x <> $0; if ((n-- > 0)); then next & fi; exit; }; mkfifo $0; next"
	if err := c.exec("setsid", "--fork", filepath.Join(d, name), "-c", script, filepath.Join(d, "fifo")).Run(); err != nil {
		t.Fatal(err)
	}
	alive := func() int {
		return slices.IndexFunc(spawntest.Descendants(), func(p spawntest.Proc) bool { return p.Name == name && p.State != 'Z' })
	}
	for end := time.Now().Add(settle); alive() < 0 && time.Now().Before(end); {
	}
	t.Cleanup(func() {
		left := true
		for end := time.Now().Add(settle); left && time.Now().Before(end); {
			left = false
			spawntest.Reap()
			for _, p := range spawntest.Descendants() {
				if p.Name == name {
					left = true // dead perhaps, and to be reaped: the next test's leak check counts it too
					// Its session, at once: one after the other is slower than they are.
					if group, err := unix.Getpgid(p.PID); err == nil && group != unix.Getpgrp() {
						_ = syscall.Kill(-group, syscall.SIGKILL)
					}
				}
			}
		}
	})
}

// What SIGKILL of a sandboxd leaves to the next start goes by the names that the leak check knows.
func TestLeakCheckSeesWhatAKillLeaves(t *testing.T) {
	c := asRoot(t)
	var found map[string]string
	for range 20 { // others may sweep up before we look
		c.run(t, "", "/bin/true").want(t, 0, sandbox.Exited)
		before := inventory(t, c)
		r := c.prepare(t, "--timeout 60s", "/bin/sh", "-c", "echo ready; exec sleep 1000")
		signalWhenReady(t, r, syscall.SIGKILL)
		r.waitLoosely(t)
		awaitNobody(t)
		found = leaks(t, c, before, 0)
		keys := strings.Join(slices.Sorted(maps.Keys(found)), "\n")
		if strings.Contains(keys, "cgroup /sys/fs/cgroup/") && strings.Contains(keys, "state /run/sandboxd/") {
			c.run(t, "", "/bin/true").want(t, 0, sandbox.Exited)
			return
		}
	}
	t.Errorf("are overlooked; seen: %v", found)
}

func writeFile(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(name) })
}
