package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sandboxd/sandbox"
)

func TestExitCodeIsTheProgramsOwn(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for _, code := range []int{0, 1, 2, 42, 99, 124, 125, 126, 127, 128, 137, 255} { // ours too: the report tells the difference
			c.run(t, "", "sh", "-c", fmt.Sprint("exit ", code)).want(t, code, sandbox.Exited)
		}
	})
}

func TestSignalsEndAs128PlusN(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		for sig, name := range map[int]string{1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 34: ""} {
			res := c.run(t, "", "/bin/bash", "-c", fmt.Sprintf("kill -%d $$; sleep 100", sig))
			res.want(t, 128+sig, sandbox.Signaled)
			if res.report != nil && name != "" && res.report.Exit.Signal != name {
				t.Errorf("signal %d is called %q in the report", sig, res.report.Exit.Signal)
			}
		}
	})
}

func TestProgramsThatCannotRun(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		d := c.dir(t)
		for name, file := range map[string]struct {
			text string
			mode os.FileMode
		}{
			"plain": {"#!/bin/sh\n", 0o644}, "garbage": {"\x7fELF garbage", 0o755}, "nointerp": {"#!/no/such/interpreter\n", 0o755},
			"empty": {"", 0o755},
		} {
			p := filepath.Join(d, name)
			if err := os.WriteFile(p, []byte(file.text), file.mode); err != nil {
				t.Fatal(err)
			}
		}
		for argv, code := range map[string]int{
			"no-such-program": 127, "/no/such/program": 127, "./no-such": 127, "/etc": 126, "/": 126,
			"/d/plain": 126, "/d/garbage": 126, "/d/empty": 126, "/d/nointerp": 127,
		} {
			res := c.run(t, "--mount "+d+":/d", argv)
			res.want(t, code, sandbox.SpawnFailed)
			if !strings.Contains(res.stderr, argv) {
				t.Errorf("%s: stderr does not name the program: %q", argv, res.stderr)
			}
		}
	})
}

func TestBadCommandLinesAreRefused(t *testing.T) {
	c := asRoot(t)
	for flags, word := range map[string]string{
		"--no-such-flag":                        "no-such-flag",
		"--memory 64q":                          "memory",
		"--memory -5":                           "memory",
		"--memory 10":                           "memory",
		"--memory 99999999999999g":              "memory",
		"--cpus 0.00001":                        "cpu",
		"--cpus nan":                            "cpu",
		"--cpuset-cpus 4000":                    "cpu",
		"--cpuset-cpus 1-0":                     "cpu",
		"--timeout soon":                        "timeout",
		"--timeout -1s":                         "timeout",
		"--pids-limit 0x":                       "pids",
		"--ulimit nofile=9:5":                   "nofile",
		"--ulimit nonsense=5":                   "nonsense",
		"--user 1000:x":                         "user",
		"--user -2":                             "user",
		"--mount /etc":                          "mount",
		"--mount /nowhere:/x":                   "/nowhere",
		"--mount /etc:/proc/x":                  "/proc",
		"--mount /etc:/":                        "/",
		"--mount /etc:x":                        "absolute",
		"--mount /etc:/x:suid":                  "suid",
		"--root /nowhere":                       "/nowhere",
		"--root /dev/null":                      "/dev/null",
		"--network bridge":                      "bridge",
		"--seccomp off":                         "seccomp",
		"--backend magic":                       "native",
		"--workdir /nowhere":                    "/nowhere",
		"--hostname " + strings.Repeat("h", 65): "host",
		"--env NOVALUE=x --env =x":              "env",
	} {
		c.run(t, flags, "/bin/echo", "ran").refused(t, word)
	}
	c.run(t, "").refused(t, "program")
}

// The JSON that others parse: its keys are a promise.
func TestReportIsTheSchema(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.run(t, "", "/bin/sh", "-c", "echo hello; exit 3")
		res.want(t, 3, sandbox.Exited)
		var tree map[string]any
		if err := json.Unmarshal(res.raw, &tree); err != nil {
			t.Fatal(err)
		}
		keys := func(of string) string {
			m, _ := tree[of].(map[string]any)
			return strings.Join(slices.Sorted(maps.Keys(m)), " ")
		}
		for of, want := range map[string]string{
			"actor": "id name", "exit": "code reason", "isolation": "enforced missing network", "spawn": "phases total_ns",
			"usage": "disk_bytes io_read_bytes io_write_bytes memory_peak_bytes output_bytes pids_peak system_ns user_ns wall_ns",
		} {
			if keys(of) != want {
				t.Errorf("keys of %s: %s, want %s", of, keys(of), want)
			}
		}
		rep := res.report
		if rep.Schema != sandbox.ReportSchema || rep.Backend != c.backend() || rep.Actor.ID == "" || rep.Actor.Name != "sh" {
			t.Errorf("report: %+v", rep)
		}
		if rep.Usage.OutputBytes != 6 || rep.Usage.Wall <= 0 || rep.Isolation.Network != "none" {
			t.Errorf("usage %+v, network %q", rep.Usage, rep.Isolation.Network)
		}
		for _, e := range []string{"userns", "pidns", "mountns", "netns", "utsns", "ipcns", "seccomp", "no-new-privs", "landlock"} {
			held := func(s string) bool { return s == e || strings.HasPrefix(s, e+"(") }
			if !slices.ContainsFunc(rep.Isolation.Enforced, held) && !res.missing(e) {
				t.Errorf("%s is neither enforced nor missing: %v", e, rep.Isolation)
			}
		}
		var sum int64
		for _, p := range rep.Spawn.Phases {
			sum += int64(p.Took)
		}
		if total := int64(rep.Spawn.Total); total <= 0 || sum < total*8/10 || sum > total*11/10 {
			t.Errorf("phases sum to %d of %d ns: %+v", sum, total, rep.Spawn.Phases)
		}
	})
}

// A report that cannot be written is our failure, told before anything runs.
func TestReportThatCannotBeWritten(t *testing.T) {
	c := asRoot(t)
	r := c.prepare(t, "--report /nowhere/report.json", "/bin/echo", "ran")
	if res := r.run(t); res.code != 125 || res.stdout != "" {
		t.Errorf("exit %d%s", res.code, res.tail())
	}
}

func TestQuietSaysNothing(t *testing.T) {
	c := asRoot(t)
	loud := c.run(t, "--timeout 200ms", "/bin/sleep", "100")
	quiet := c.run(t, "--timeout 200ms --quiet", "/bin/sleep", "100")
	for _, res := range []*result{loud, quiet} {
		res.want(t, 124, sandbox.Timeout)
	}
	if !strings.Contains(loud.stderr, "timeout") && !strings.Contains(loud.stderr, "200ms") {
		t.Errorf("a timeout is not told on stderr: %q", loud.stderr)
	}
	if quiet.stderr != "" {
		t.Errorf("--quiet says %q", quiet.stderr)
	}
}

// With --json the report is the last line on stderr; stdout stays the program's.
func TestJSON(t *testing.T) {
	everyone(t, func(t *testing.T, c *caller) {
		res := c.run(t, "--json", "/bin/sh", "-c", "echo out; echo err >&2; exit 3")
		res.want(t, 3, sandbox.Exited)
		if res.stdout != "out\n" || res.stderr != "err\n"+string(res.raw) {
			t.Errorf("stdout %q, stderr %q, want err and %s", res.stdout, res.stderr, res.raw)
		}
		res = c.run(t, "--json", "/no/such/program")
		var rep sandbox.Report
		lines := strings.Split(strings.TrimSpace(res.stderr), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &rep); err != nil || rep.Exit.Code != 127 {
			t.Errorf("a failed start: %v in %q", err, res.stderr)
		}
	})
}
