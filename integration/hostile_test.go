package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/sandbox"
	"sandboxd/spawn/spawntest"
)

// Daemons in sessions of their own, deaf to every signal, end with the program.
func TestDaemonsDieWithTheProgram(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for range spawntest.Rounds(5, 200) {
			res := c.attack(t, "", "procs", "daemons", "20")
			if res.want(t, 0, sandbox.Exited); res.stdout != "daemons are up\n" {
				t.Errorf("stdout: %q", res.stdout)
			}
		}
	})
}

func TestZombiesDieWithTheProgram(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		c.attack(t, "", "procs", "zombies", "100").want(t, 137, sandbox.Signaled)
	})
}

// A thousand orphans pass through init while the program runs on: all are reaped.
func TestOrphansAreReaped(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		// Until nobody is left but init, bash, and ls.
		const script = "for i in $(seq 1000); do (true &) ; done; until all=$(ls -d /proc/[0-9]*) && [ $(wc -w <<<$all) -le 4 ]; do sleep 0.1; done; echo reaped"
		res := c.run(t, "--pids-limit 64 --timeout 60s", "/bin/bash", "-c", script)
		if res.want(t, 0, sandbox.Exited); res.stdout != "reaped\n" {
			t.Errorf("stdout: %q", res.stdout)
		}
	})
}

// The caller's descriptors, signals, environment and directory stay with the caller.
func TestNothingIsInherited(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		r := c.prepare(t, "--mount "+hostile+":/hostile", "/hostile/identity")
		r.Path, r.Args = "/usr/bin/python3", append([]string{"python3", filepath.Join(hostile, "caller.py")}, r.Args...)
		res := r.run(t)
		res.want(t, 0, sandbox.Exited)
		facts := map[string]string{}
		var env []string
		for line := range strings.Lines(res.stdout) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
			if k == "env" {
				name, _, _ := strings.Cut(strings.TrimSpace(v), "=")
				env = append(env, name)
			} else {
				facts[k] = strings.TrimSpace(v)
			}
		}
		for k, want := range map[string]string{
			"fds": "0 1 2", "args": "1", "ignored": "", "blocked": "", "cwd": "/home/sandbox", "umask": "022", "personality": "0",
			"no_new_privs": "1", "keepcaps": "0", "nice": "3", "uid": "1000 1000", "gid": "1000 1000", "cpus": strconv.Itoa(runtime.NumCPU()), "leader": "yes",
		} {
			if facts[k] != want {
				t.Errorf("%s: %q, want %q", k, facts[k], want)
			}
		}
		if strings.Join(env, " ") != "PATH HOME USER LANG" {
			t.Errorf("environment: %v", env)
		}
		if facts["groups"] != "0" && facts["groups"] != "1" {
			t.Errorf("%s supplementary groups", facts["groups"])
		}
		r = c.prepare(t, "--backend process", "/bin/sh", "-c", "umask; echo x > f && cat f")
		r.Path, r.Args = "/usr/bin/python3", append([]string{"python3", filepath.Join(hostile, "caller.py")}, r.Args...)
		if res := r.run(t); res.code != 0 || res.stdout != "0022\nx\n" {
			t.Errorf("--backend process: exit %d%s", res.code, res.tail())
		}
	})
}

// What the kernel says of the program, in its own words.
func TestStatusOfTheProgram(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.run(t, "", "/bin/cat", "/proc/self/status", "/proc/self/uid_map", "/proc/self/oom_score_adj", "/proc/self/cgroup")
		res.want(t, 0, sandbox.Exited)
		const none = "0000000000000000"
		for _, want := range []string{
			"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapInh:\t" + none, "CapPrm:\t" + none, "CapEff:\t" + none, "CapAmb:\t" + none,
			"SigBlk:\t" + none, "SigIgn:\t" + none, "TracerPid:\t0\n", "Uid:\t1000\t1000\t1000\t1000\n", "Gid:\t1000\t1000\t1000\t1000\n",
		} {
			if !strings.Contains(res.stdout, want) {
				t.Errorf("/proc/self/status has no %q:\n%s", want, res.stdout)
			}
		}
		// A bounding set is empty, or locked securebits make it mean nothing.
		if !strings.Contains(res.stdout, "CapBnd:\t"+none) && !strings.Contains(c.attack(t, "", "identity").stdout, "securebits: ef\n") {
			t.Error("the bounding set is neither empty nor locked")
		}
		_, rest, _ := strings.Cut(res.stdout, "nonvoluntary_ctxt_switches")
		lines := strings.Split(rest, "\n")[1:]
		seen := false
		for _, line := range lines {
			f := strings.Fields(line)
			switch {
			case len(f) == 3 && f[0] == "1000": // inside outside count
				if seen = true; f[2] != "1" || c.root() && f[1] == "0" {
					t.Errorf("uid_map: %s", line)
				}
			case len(f) == 1 && !strings.Contains(line, ":"):
				if adj, err := strconv.Atoi(f[0]); err != nil || adj < 0 {
					t.Errorf("oom_score_adj: %s", line)
				}
			case strings.Contains(line, ":\t"): // of the status still; newer kernels have more of it
			case strings.Contains(line, ":") && !strings.HasSuffix(line, ":/"):
				t.Errorf("cgroup: %s", line)
			}
		}
		if !seen {
			t.Errorf("the program's id is not in uid_map:\n%s", rest)
		}
	})
}

// As root no two live actors have an id in common.
func TestEveryActorHasIDsOfItsOwn(t *testing.T) {
	c := asRoot(t)
	ids := map[string]bool{}
	var all []*running
	release := hold(t)
	for range 4 {
		r := c.prepare(t, "", "/bin/sh", "-c", "cat /proc/self/uid_map; read x")
		r.Stdin = release.in
		startAndAwait(t, r)
		all = append(all, r)
	}
	release.now()
	for _, r := range all {
		for line := range strings.Lines(r.waitLoosely(t).stdout) {
			if f := strings.Fields(line); len(f) == 3 {
				if ids[f[1]] {
					t.Errorf("host id %s is given twice", f[1])
				}
				ids[f[1]] = true
			}
		}
	}
	if len(ids) < 4 {
		t.Errorf("host ids: %v", ids)
	}
}

// A host directory lent for writing gets no set-id program and no device.
func TestNothingPrivilegedInAMount(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		res := c.attack(t, "--mount "+d+":/data:rw", "files", "setid", "/data")
		res.want(t, 0, sandbox.Exited)
		compare(t, res.stdout, `
			chmod u+s: EPERM
			chmod g+s: EPERM
			fchmod u+s: EPERM
			fchmodat u+s: EPERM
			creat 04755: EPERM
			open O_CREAT 06755: EPERM
			open O_TMPFILE 04755: EPERM
			mknod regular 04755: EPERM
			mknod null: EPERM|EACCES
			mknod disk: EPERM|EACCES
			mkfifo: OK
			mkdir 06755: OK
		`)
		err := filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if err != nil || p == d {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeDevice) != 0 {
				t.Errorf("on the host: %s is %v", p, info.Mode())
			}
			if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != c.uid || int(st.Gid) != c.uid {
				t.Errorf("on the host: %s belongs to %d:%d, its directory to %d", p, st.Uid, st.Gid, c.uid)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Ten thousand names with every byte that a name may have pass a writable mount.
func TestOddFileNames(t *testing.T) {
	program(t, "/usr/bin/python3", "python3")
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		const n = 10000
		res := c.run(t, "--mount "+d+":/data:rw --mount "+hostile+":/hostile", "/usr/bin/python3", "/hostile/bomb.py", "names", "/data", strconv.Itoa(n))
		res.want(t, 0, sandbox.Exited)
		entries, err := os.ReadDir(d)
		if err != nil || len(entries) != n {
			t.Fatalf("%d files on the host, want %d (%v)", len(entries), n, err)
		}
		used := map[byte]bool{}
		for _, e := range entries {
			for _, b := range []byte(e.Name()) {
				used[b] = true
			}
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != c.uid {
				t.Fatalf("%q belongs to %d", e.Name(), st.Uid)
			}
		}
		if len(used) != 254 {
			t.Errorf("%d different bytes in names, want 254", len(used))
		}
	})
}

// Arguments and environment as long as the kernel takes them either arrive
// whole or are refused in words.
func TestLongArguments(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		long := strings.Repeat("a", 128<<10-1) // MAX_ARG_STRLEN with its NUL
		res := c.run(t, "", "/bin/bash", "-c", `echo ${#1} $#`, "bash", long)
		if res.want(t, 0, sandbox.Exited); res.stdout != "131071 1\n" {
			t.Errorf("one long argument: %q", res.stdout)
		}
		many := []string{"-c", `echo $#`, "bash"}
		for range 40000 {
			many = append(many, "0123456789")
		}
		res = c.run(t, "", append([]string{"/bin/bash"}, many...)...)
		if res.want(t, 0, sandbox.Exited); res.stdout != "40000\n" {
			t.Errorf("40,000 arguments: %q", res.stdout)
		}
		for range 40000 {
			many = append(many, "0123456789")
		}
		res = c.run(t, "", append([]string{"/bin/bash"}, many...)...)
		if ran := res.code == 0 && res.stdout == "80000\n"; !ran && (res.code != 125 && res.code != 126 || len(res.stderr) == 0 || len(res.stderr) > 4096) {
			t.Errorf("80,000 arguments: exit %d, stderr of %d bytes%s", res.code, len(res.stderr), res.tail())
		}
		r := c.prepare(t, "--env LONG="+long[:100000], "/bin/bash", "-c", "echo ${#LONG}")
		if res := r.run(t); res.stdout != "100000\n" {
			t.Errorf("a long variable: %q%s", res.stdout, res.tail())
		}
		// Odd bytes are passed as they are.
		odd := "a\nb\tc\x01\x1b[31m\xff\xfe'\"\\ $(id) ü"
		if res := c.run(t, "", "/usr/bin/printf", "%s", odd); res.stdout != odd {
			t.Errorf("odd bytes: %q", res.stdout)
		}
		if res := c.run(t, "", "/usr/bin/printf", "[%s]", ""); res.stdout != "[]" {
			t.Errorf("an empty argument: %q", res.stdout)
		}
	})
}

// Text of the program's cannot forge what sandboxd says: the report is JSON
// whatever the names are.
func TestHostileNames(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		name := "\x1b[2J\"}\n\xff<script>"
		if err := os.WriteFile(filepath.Join(d, name), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c.run(t, "--mount "+d+":/d", "/d/"+name).want(t, 3, sandbox.Exited)
		res := c.run(t, "", "/d/"+name)
		if res.want(t, 127, sandbox.SpawnFailed); bytes.ContainsAny([]byte(res.stderr), "\x1b\xff") {
			t.Errorf("raw control bytes reach the terminal: %q", res.stderr)
		}
	})
}

// The other backend is weaker and says so; what it promises holds.
func TestProcessBackend(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.run(t, "--backend process", "/bin/sh", "-c", "echo hello; exit 3")
		if res.want(t, 3, sandbox.Exited); res.stdout != "hello\n" {
			t.Errorf("stdout: %q", res.stdout)
		}
		if res.report == nil || res.report.Backend != "process" || len(res.report.Isolation.Missing) == 0 {
			t.Fatalf("report: %+v", res.report)
		}
		status := c.run(t, "--backend process", "/bin/cat", "/proc/self/status").stdout
		for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
			if !strings.Contains(status, want) {
				t.Errorf("no %q in %s", want, status)
			}
		}
		if res := c.run(t, "--backend process", "/bin/cat", "/etc/shadow"); res.code == 0 || res.stdout != "" {
			t.Errorf("/etc/shadow is readable: exit %d", res.code)
		}
		// A daemon of its own session does not survive.
		c.run(t, "--backend process", "/bin/sh", "-c", "setsid sleep 1000 & sleep 0.1; exit 0").want(t, 0, sandbox.Exited)
		c.run(t, "--backend process --timeout 500ms", "/bin/sleep", "1000").want(t, 124, sandbox.Timeout)
		if res.missing("landlock(scope.signal)") {
			hosttest.NeedKernel(t, 6, 12, "Landlock scopes, and the report says so")
		}
		// The host's processes show, and cannot be signalled; sandboxd itself neither.
		kill := "kill -TERM $PPID && echo parent; "
		for _, canary := range canaries {
			kill += fmt.Sprintf("test -d /proc/%[1]d && kill -TERM %[1]d && echo canary; ", canary.Process.Pid)
		}
		if res := c.run(t, "--backend process", "/bin/sh", "-c", kill+"exit 3"); res.code != 3 || res.stdout != "" {
			t.Errorf("a signal got out: exit %d%s", res.code, res.tail())
		}
	})
}
