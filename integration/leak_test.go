package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn/spawntest"
)

// settle is how long something may take to go that nobody waits for.
var settle = hosttest.Patience(15)

var canaries []*exec.Cmd

// placeCanaries starts processes that an attack would hit if it got out: one of
// each caller's, asleep until we are gone.
func placeCanaries() error {
	uids := []int{os.Geteuid()}
	if uids[0] == 0 {
		uids = append(uids, spawntest.Ordinary)
	}
	for _, uid := range uids {
		cmd := (&caller{uid: uid, home: "/"}).exec("cat")
		_, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return fmt.Errorf("canary: %w", err)
		}
		canaries = append(canaries, cmd)
	}
	return os.WriteFile(filepath.Join(base, "canary"), []byte("sing\n"), 0o644)
}

// watchHost compares the host before and after a test. What is new must go by
// itself: only what is there at every look until the deadline is a leak, so
// that others may use sandboxd at the same time.
func watchHost(t *testing.T, c *caller) {
	t.Helper()
	before, precious := inventory(t, c), fingerprints(t)
	t.Cleanup(func() {
		for k, detail := range leaks(t, c, before, settle) {
			t.Errorf("left behind: %s %s", k, detail)
		}
		for what, now := range fingerprints(t) {
			if now != precious[what] {
				t.Errorf("the host was changed: %s: %q is now %q", what, precious[what], now)
			}
		}
	})
}

// leaks are what was not there before, and does not go for as long as we have patience.
func leaks(t *testing.T, c *caller, before map[string]string, patience time.Duration) map[string]string {
	t.Helper()
	found := inventory(t, c)
	maps.DeleteFunc(found, func(k, _ string) bool { _, old := before[k]; return old })
	for end := time.Now().Add(patience); len(found) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := inventory(t, c)
		maps.DeleteFunc(found, func(k, _ string) bool { _, still := now[k]; return !still })
	}
	return found
}

// inventory lists everything that a run could leave behind. All processes are
// one item, for they may change their names and pass themselves on to children.
func inventory(t *testing.T, c *caller) map[string]string {
	t.Helper()
	all := map[string]string{}
	add := func(kind string, names ...string) {
		for _, n := range names {
			all[kind+" "+n] = ""
		}
	}
	spawntest.Reap()
	if p := descendants(); len(p) > 0 {
		all["processes"] = strings.Join(p, ", ")
	}
	for _, file := range []string{"/proc/self/mountinfo", "/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if file != "/proc/self/mountinfo" {
				f = f[:2] // key and id; the rest of an object may change
			}
			add(file, strings.Join(f, " "))
		}
	}
	// A lease that somebody holds is of a sandboxd that lives, and not ours:
	// ours have ended.
	live := locked(t)
	held := func(lease string) bool {
		var st syscall.Stat_t
		return syscall.Stat(lease, &st) == nil && live[st.Ino]
	}
	add("cgroup", glob("/sys/fs/cgroup", func(p string, d fs.DirEntry) bool {
		n, ok := strings.CutPrefix(strings.TrimPrefix(d.Name(), "sandboxd-supervisor-"), "sandboxd-")
		_, err := strconv.Atoi(n)
		return d.IsDir() && ok && err == nil && !held("/run/sandboxd/"+n)
	})...)
	everything := func(string, fs.DirEntry) bool { return true }
	add("file", glob("/dev/shm", everything)...)
	add("file", glob(filepath.Join(c.home, "tmp"), everything)...)
	for _, dir := range []string{"/run/sandboxd", filepath.Join(c.home, "run")} {
		// The state directory itself may stay, and what is known of this boot; what else is in it may not.
		add("state", glob(dir, func(p string, d fs.DirEntry) bool {
			return d.Name() != "sandboxd" && !strings.HasPrefix(d.Name(), "works-") && !held(p)
		})...)
	}
	return all
}

func glob(dir string, match func(string, fs.DirEntry) bool) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != dir && match(p, d) {
			found = append(found, p)
		}
		return nil // files come and go while we look
	})
	return found
}

// locked are the inodes that somebody holds an flock(2) on.
func locked(t *testing.T) map[uint64]bool {
	t.Helper()
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[uint64]bool{}
	for line := range strings.Lines(string(b)) { // 1: FLOCK  ADVISORY  WRITE 123 fe:00:4711 0 EOF
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" {
			n, err := strconv.ParseUint(f[5][strings.LastIndexByte(f[5], ':')+1:], 10, 64)
			inodes[n] = err == nil
		}
	}
	return inodes
}

// descendants of this process, but for the canaries. Zombies count.
func descendants() []string {
	var found []string
	for _, p := range spawntest.Descendants() {
		if !slices.ContainsFunc(canaries, func(c *exec.Cmd) bool { return c.Process.Pid == p.PID }) {
			found = append(found, fmt.Sprintf("%d (%s) %c", p.PID, p.Name, p.State))
		}
	}
	return found
}

// fingerprints are of what no sandboxed program may ever change.
func fingerprints(t *testing.T) map[string]string {
	t.Helper()
	prints := map[string]string{}
	for _, f := range []string{
		"/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/ld.so.preload", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
		"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/sysrq", "/sys/kernel/uevent_helper", "/proc/sys/fs/binfmt_misc/status",
		sandboxd, filepath.Join(base, "canary"),
	} {
		b, err := os.ReadFile(f)
		switch {
		case err == nil:
			prints[f] = fmt.Sprintf("%x", sha256.Sum256(b))
		case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EINVAL):
			prints[f] = "unreadable"
		default:
			t.Fatal(err)
		}
	}
	for _, c := range canaries {
		dir := fmt.Sprintf("/proc/%d/", c.Process.Pid)
		limits, _ := os.ReadFile(dir + "limits")
		stat, _ := os.ReadFile(dir + "stat")
		f := strings.Fields(string(stat)) // pid (comm) state …, 19: nice, 41: policy
		if len(f) < 41 || f[2] != "S" {
			t.Fatalf("the canary process is dead: %s", stat)
		}
		prints[dir] = fmt.Sprint(string(limits), f[18], f[40])
	}
	return prints
}
