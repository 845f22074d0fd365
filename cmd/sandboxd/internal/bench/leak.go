package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of things that can leak, in the order they are reported.
const (
	kindProcess = iota
	kindZombie
	kindFD
	kindGoroutine
	kindMount
	kindCgroup
	kindNetns
	kindSocket
	kindFile
	kinds
)

var kindNames = [kinds]string{
	"processes", "zombies", "fds", "goroutines", "mounts", "cgroups", "network namespaces", "unix sockets", "files",
}

// Leak is the account of one kind: counts at two points, and what is there at
// the second that was not at the first. Goroutines have no names, only a count.
type Leak struct {
	Kind   string   `json:"kind"`
	Before int      `json:"before"`
	After  int      `json:"after"`
	New    []string `json:"new"`
}

func (l Leak) left() string {
	if len(l.New) == 0 {
		return "nothing"
	}
	shown := l.New[:min(len(l.New), 3)]
	return fmt.Sprintf("%d: %s", len(l.New), strings.Join(shown, ", "))
}

// Leaked counts what is left of all kinds.
func Leaked(all []Leak) int {
	n := 0
	for _, l := range all {
		n += len(l.New)
	}
	return n
}

// Snapshot is what exists at one moment: the descendants of this process and
// all orphans (children of PID 1), our descriptors and goroutines, the mounts
// and unix sockets that we see, all cgroups, the network namespaces of all
// processes that we may look at, and the files below the directories named.
// Strangers that start meanwhile show too; each thing is named so that they can
// be told apart.
type Snapshot struct {
	dirs  []string
	items [kinds][]string // sorted
}

// TakeSnapshot looks once. A directory that does not exist is empty.
func TakeSnapshot(dirs ...string) (*Snapshot, error) {
	s := &Snapshot{dirs: dirs}
	for _, look := range []func() error{s.processes, s.mounts, s.cgroups, s.sockets, s.files, s.fds} {
		if err := look(); err != nil {
			return nil, fmt.Errorf("bench: count what exists: %w", err)
		}
	}
	for i := range runtime.NumGoroutine() {
		s.items[kindGoroutine] = append(s.items[kindGoroutine], fmt.Sprintf("goroutine %06d", i+1))
	}
	for i := range s.items {
		slices.Sort(s.items[i])
		s.items[i] = slices.Compact(s.items[i])
	}
	return s, nil
}

// Since gives the account of every kind, from before to s.
func (s *Snapshot) Since(before *Snapshot) []Leak {
	all := make([]Leak, kinds)
	for k := range all {
		all[k] = Leak{Kind: kindNames[k], Before: len(before.items[k]), After: len(s.items[k]), New: []string{}}
		for _, item := range s.items[k] {
			if _, found := slices.BinarySearch(before.items[k], item); !found {
				all[k].New = append(all[k].New, item)
			}
		}
	}
	return all
}

// AwaitClean looks until nothing is left since s, or the time is over,
// and gives the last account: network namespaces and strangers take a moment.
func (s *Snapshot) AwaitClean(ctx context.Context, within time.Duration) ([]Leak, error) {
	for deadline := time.Now().Add(within); ; {
		now, err := TakeSnapshot(s.dirs...)
		if err != nil {
			return nil, err
		}
		all := now.Since(s)
		if Leaked(all) == 0 || time.Now().After(deadline) {
			return all, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return all, err
		}
	}
}

func (s *Snapshot) add(kind int, item string) { s.items[kind] = append(s.items[kind], item) }

// stat is what /proc/PID/stat says, see proc_pid_stat(5).
type stat struct {
	pid, parent int
	name, begin string
	state       byte
}

func (s *Snapshot) processes() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	all := map[int]*stat{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it ended
		}
		open, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
		f := strings.Fields(string(text[end+1:]))
		if open < 0 || len(f) < 20 {
			return fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(f))
		}
		p := &stat{pid: pid, name: string(text[open+1 : end]), begin: f[19], state: f[0][0]}
		if p.parent, err = strconv.Atoi(f[1]); err != nil {
			return fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		all[pid] = p
		if ns, err := os.Readlink("/proc/" + e.Name() + "/ns/net"); err == nil {
			s.add(kindNetns, ns)
		}
	}
	for _, p := range all {
		if p.parent != 1 && !descends(all, p) {
			continue
		}
		kind := kindProcess
		if p.state == 'Z' {
			kind = kindZombie
		}
		s.add(kind, fmt.Sprintf("%s (pid %d, started at %s)", p.name, p.pid, p.begin))
	}
	return nil
}

// descends tells whether a process is below this one.
func descends(all map[int]*stat, p *stat) bool {
	for p != nil && p.parent != os.Getpid() {
		p = all[p.parent]
	}
	return p != nil
}

func (s *Snapshot) mounts() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 {
			s.add(kindMount, f[4]+" (mount "+f[0]+")")
		}
	}
	return err
}

func (s *Snapshot) cgroups() error {
	all, err := hierarchies()
	for _, h := range all {
		s.walk(kindCgroup, h.root, true)
	}
	return err
}

func (s *Snapshot) files() error {
	for _, dir := range s.dirs {
		s.walk(kindFile, dir, false)
	}
	return nil
}

// walk adds what is below dir; what vanishes while it looks does not exist.
func (s *Snapshot) walk(kind int, dir string, onlyDirs bool) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir && (d.IsDir() || !onlyDirs) {
			s.add(kind, path)
		}
		return nil
	})
}

func (s *Snapshot) sockets() error {
	text, err := os.ReadFile("/proc/net/unix")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without them
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 6 && f[0] != "Num" {
			s.add(kindSocket, strings.Join(f[7:], " ")+" (socket "+f[6]+")")
		}
	}
	return err
}

func (s *Snapshot) fds() error {
	entries, err := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		// The descriptor that listed them is closed by now.
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			s.add(kindFD, e.Name()+" -> "+to)
		}
	}
	return err
}
