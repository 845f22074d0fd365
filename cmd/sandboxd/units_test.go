package main

import (
	"context"
	"flag"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sandboxd/sandbox"
)

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "4096": 4096, "64m": 64 << 20, "64M": 64 << 20, "64mb": 64 << 20, "64MiB": 64 << 20, "1g": 1 << 30, "2t": 2 << 40,
		"512k": 512 << 10, "1.5k": 1536, " 7 ": 7, "-1": sandbox.Unlimited, "unlimited": sandbox.Unlimited,
	} {
		if got, err := parseBytes(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-2", "m", "x", "1x", "1e3", "0x10", "inf", "nan", "1..2", "9999999t", "64 m", "+5", "1_000", "0.5", "b", "ib"} {
		if got, err := parseBytes(in); err == nil {
			t.Errorf("%q was read as %d", in, got)
		}
	}
}

func TestTimes(t *testing.T) {
	for in, want := range map[string]time.Duration{"5s": 5 * time.Second, "1m30s": 90 * time.Second, "200ms": 200 * time.Millisecond, "2": 2 * time.Second, "0.25": 250 * time.Millisecond, "-1": sandbox.Unlimited, "unlimited": sandbox.Unlimited} {
		var got time.Duration
		if err := (timeValue{&got}).Set(in); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-5", "-3s", "x", "nan", "inf", "1e300", "1e-12"} {
		var got time.Duration
		if err := (timeValue{&got}).Set(in); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
}

func TestCounts(t *testing.T) {
	for in, want := range map[string]int64{"1": 1, "256": 256, "-1": sandbox.Unlimited, "unlimited": sandbox.Unlimited} {
		var got int64
		if err := (countValue{&got}).Set(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "-2", "1.5", "x", "99999999999999999999"} {
		var got int64
		if err := (countValue{&got}).Set(in); err == nil {
			t.Errorf("%q was read as %d", in, got)
		}
	}
}

func TestParseUlimit(t *testing.T) {
	for in, want := range map[string]sandbox.Ulimit{
		"nofile=64": {Name: "nofile", Soft: 64, Hard: 64}, "nofile=64:128": {Name: "nofile", Soft: 64, Hard: 128}, "core=-1": {Name: "core", Soft: -1, Hard: -1},
	} {
		if got, err := parseUlimit(in); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "nofile", "nofile=", "nofile=x", "nofile=1:", "nofile=1:2:3"} {
		if got, err := parseUlimit(in); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

func TestParseUser(t *testing.T) {
	for in, want := range map[string]sandbox.User{"0": {}, "7": {UID: 7, GID: 7}, "7:8": {UID: 7, GID: 8}, "2147483647": {UID: math.MaxInt32, GID: math.MaxInt32}} {
		if got, err := parseUser(in); err != nil || *got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "-1", "root", "1:", ":1", "1:2:3", "+1", "2147483648", "0x1", "1 "} {
		if got, err := parseUser(in); err == nil {
			t.Errorf("%q was read as %+v", in, got)
		}
	}
}

// The flags land in the Spec, the last one wins, and those that may repeat add up.
func TestParseRun(t *testing.T) {
	t.Setenv("FROM_CALLER", "yes")
	o, err := parseRun([]string{
		"--memory", "1g", "-m", "64m", "--cpus", "0.5", "--cpus=unlimited", "--timeout", "5s", "--writable", "--root", t.TempDir(), "-e", "A=1", "-e", "FROM_CALLER",
		"-e", "NOT_SET_ANYWHERE", "--env", "B=", "-u", "5:6", "-it", "-q", "--best-effort", "--", "prog", "--memory", "9",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := &o.spec
	switch {
	case s.Limits.Memory != 64<<20, s.Limits.CPUs != sandbox.Unlimited, s.Limits.Timeout != 5*time.Second:
		t.Errorf("limits: %+v", s.Limits)
	case !s.Root.Writable || s.Root.Path == "": // whichever of the two comes first
		t.Errorf("root: %+v", s.Root)
	case strings.Join(s.Env, " ") != "A=1 FROM_CALLER=yes B=":
		t.Errorf("env: %q", s.Env)
	case *s.User != sandbox.User{UID: 5, GID: 6}, !o.terminal, !o.quiet, !s.BestEffort:
		t.Errorf("options: %+v", o)
	case strings.Join(s.Argv, " ") != "prog --memory 9":
		t.Errorf("argv: %q", s.Argv)
	}
}

// Every flag is in --help and in docs/run.md, and they name no other.
func TestFlagsAreDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/run.md")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`(?:^|[^\w-])(--[a-z][a-z-]*|-[a-z]+)\b`)
	for name, text := range map[string]string{"--help": runUsage, "docs/run.md": string(page)} {
		known := []string{"--help"}
		said := map[string]bool{}
		for _, m := range word.FindAllStringSubmatch(text, -1) {
			said[m[1]] = true
		}
		(&runOptions{}).flags("run").VisitAll(func(f *flag.Flag) {
			spelled := "--" + f.Name
			if len(f.Name) <= 2 {
				spelled = "-" + f.Name
			}
			known = append(known, spelled)
			if !said[spelled] {
				t.Errorf("%s does not describe %s", name, spelled)
			}
		})
		for spelled := range said {
			if strings.HasPrefix(spelled, "--") && !slices.Contains(known, spelled) {
				t.Errorf("%s describes %s, which there is not", name, spelled)
			}
		}
	}
}

// Signals during the start reach the program; only those that ask for an end also end the start.
func TestHold(t *testing.T) {
	for s, ends := range map[syscall.Signal]bool{
		syscall.SIGINT: true, syscall.SIGTERM: true, syscall.SIGHUP: true, syscall.SIGQUIT: true,
		syscall.SIGWINCH: false, syscall.SIGCONT: false, syscall.SIGUSR1: false, syscall.SIGUSR2: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			signals, started := make(chan os.Signal, 16), make(chan struct{})
			go hold(signals, started, cancel)
			signals <- s
			synctest.Wait()
			if len(signals) != 0 || (ctx.Err() != nil) != ends {
				t.Errorf("%v: it waits as %d, and the start: %v; want it ended: %v", s, len(signals), context.Cause(ctx), ends)
			}
			close(started)
			if got := <-signals; got != s {
				t.Errorf("%v came out as %v", s, got)
			}
		})
	}
}

// What is accepted is a size that the kernel can be told, and means the same when printed and read again.
func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"64m", "-1", "1.5g", "9007199254740993", "1e3", "0x1p4", "unlimited", "٣m", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseBytes(s)
		if err != nil {
			return
		}
		if n != sandbox.Unlimited && n < 1 {
			t.Fatalf("%q was read as %d", s, n)
		}
		if n == sandbox.Unlimited || n > 1<<53 { // beyond, a number with a fraction cannot hold each byte
			return
		}
		var again int64
		if err := (countValue{&again}).Set(strconv.FormatInt(n, 10)); err != nil || again != n {
			t.Fatalf("%q was read as %d, then as %d: %v", s, n, again, err)
		}
		if back, err := parseBytes(strconv.FormatInt(n, 10)); err != nil || back != n {
			t.Fatalf("%q was read as %d, then as %d: %v", s, n, back, err)
		}
	})
}

// No command line makes the parser panic, and what it accepts is in range.
func FuzzParseRun(f *testing.F) {
	for _, s := range []string{
		"--memory\n64m\n--\nid", "-it\n-e\nA=1\nid", "--cpus\nNaN\nid", "--user\n1:2\n--ulimit\nnofile=1:2\n-v\n/etc:/x:rw\nprog", "--help", "--timeout\n-1\nx", "-q=false\nx",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseRun(strings.Split(line, "\n"), io.Discard)
		if err != nil {
			if o != nil {
				t.Fatal("options beside an error")
			}
			return
		}
		s, l := &o.spec, &o.spec.Limits
		for name, n := range map[string]int64{"memory": l.Memory, "swap": l.MemorySwap, "pids": l.PIDs, "file": l.FileSize, "disk": l.Disk, "inodes": l.DiskInodes, "output": l.Output, "timeout": int64(l.Timeout), "cpu-time": int64(l.CPUTime)} {
			if n < sandbox.Unlimited {
				t.Fatalf("%s is %d", name, n)
			}
		}
		if math.IsNaN(l.CPUs) || l.CPUs < 0 && l.CPUs != sandbox.Unlimited {
			t.Fatalf("cpus is %v", l.CPUs)
		}
		if len(s.Argv) == 0 || s.User != nil && (s.User.UID < 0 || s.User.GID < 0) {
			t.Fatalf("argv %q, user %+v", s.Argv, s.User)
		}
		for _, m := range s.Mounts {
			if err := m.Check(); err != nil {
				t.Fatalf("accepted a mount that is refused: %v", err)
			}
		}
		for _, kv := range s.Env {
			if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
				t.Fatalf("environment %q", kv)
			}
		}
	})
}
