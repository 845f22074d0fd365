package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// result is what became of a row. What is exported is stored, see store.go.
type result struct {
	row
	OK      bool
	Why     string   // one line; "": OK
	Passed  int      // tests, without their parts
	Failed  []string // with their parts
	Apart   []string // why tests, or parts of them, did not apply, each once
	Release string   // of the kernel
	Took    time.Duration
	Version string // of sandboxd
	log     string // the file that it was written to as it ran, kept where it failed
}

// Guards of one guest. An emulated one is some ten times slower than its host,
// which other work may share.
const (
	testTimeout = "2h"
	slow        = "8"
)

func run(ctx context.Context, vmrun []string, r row) result {
	begin := time.Now()
	var out strings.Builder
	log, err := runInto(ctx, vmrun, r, &out)
	res := judge(r, out.String(), err)
	res.Took, res.log = time.Since(begin), log
	if res.OK {
		os.Remove(log)
		os.Remove(console(log))
	}
	return res
}

func console(log string) string { return strings.TrimSuffix(log, ".log") + ".console" }

func runInto(ctx context.Context, vmrun []string, r row, out io.Writer) (log string, err error) {
	if log, err = filepath.Abs(filepath.Join(dir, r.name()+".log")); err != nil {
		return "", err
	}
	program, err := filepath.Abs(binary(r.pkg))
	if err != nil {
		return "", err
	}
	file, err := os.Create(log)
	if err != nil {
		return "", err
	}
	args := append(slices.Clone(vmrun[1:]), "-v", "--kernel", r.kernel, "--cgroup", r.cgroup, "--as", r.as, "--console", console(log),
		"--env", "SANDBOXD_MUST_WORK=1", "--env", "SANDBOXD_SLOW="+slow)
	if r.as == "user" && r.cgroup == "v2" {
		args = append(args, "--env", "SANDBOXD_DELEGATED=1")
	}
	args = append(args, "--", program, "-test.v", "-test.timeout="+testTimeout, "-test.run="+r.run)
	cmd := exec.CommandContext(ctx, vmrun[0], args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // the guest goes with it
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = r.pkg
	both := io.MultiWriter(file, out)
	cmd.Stdout, cmd.Stderr = both, both // equal, so one writer
	return log, errors.Join(cmd.Run(), file.Close())
}

var (
	verdicts = regexp.MustCompile(`(?m)^( *)--- (PASS|FAIL|SKIP): (\S+)`)
	reasons  = regexp.MustCompile(`(?m)_test\.go:\d+: does not apply: (.*)$`)
	uids     = regexp.MustCompile(`\buid \d+`)
	releases = regexp.MustCompile(`(?m)^vm: .*; kernel (\S+)$`)
)

// judge reads the output of a guest. A row in which no test ran is no success.
func judge(r row, out string, err error) result {
	res := result{row: r}
	for _, m := range verdicts.FindAllStringSubmatch(out, -1) {
		switch {
		case m[2] == "FAIL":
			res.Failed = append(res.Failed, m[3])
		case m[2] == "PASS" && m[1] == "":
			res.Passed++
		}
	}
	for _, m := range reasons.FindAllStringSubmatch(out, -1) {
		if !slices.Contains(res.Apart, m[1]) {
			res.Apart = append(res.Apart, m[1])
		}
	}
	if m := releases.FindStringSubmatch(out); m != nil {
		res.Release = m[1]
	}
	switch {
	case len(res.Failed) > 0:
		res.Why = "failed: " + strings.Join(res.Failed, " ")
	case err != nil:
		res.Why = err.Error()
		if i := strings.LastIndex(out, "\nvm: "); i >= 0 {
			why, _, _ := strings.Cut(out[i+1:], "\n")
			res.Why += ", " + why
		}
	case res.Passed == 0 && len(res.Apart) == 0:
		res.Why = "no test ran"
	default:
		res.OK = true
	}
	return res
}

func (r *result) print() {
	word := "ok  "
	if !r.OK {
		word = "FAIL"
	}
	fmt.Printf("%s  %-16s %-28s %4d passed %4ds  %s\n", word, r.layout, r.pkg, r.Passed, int(r.Took.Seconds()), r.Why)
	if !r.OK {
		fmt.Printf("      %s\n", r.log)
	}
}
