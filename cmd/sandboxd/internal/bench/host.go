package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sandboxd/sandbox/cgroup"
)

// Host is what figures must be read with.
type Host struct {
	Kernel  string     `json:"kernel"`
	Arch    string     `json:"arch"`
	CPUs    int        `json:"cpus"`   // that this process may use
	Cgroup  string     `json:"cgroup"` // v1, hybrid, v2 or none
	Go      string     `json:"go"`
	UID     int        `json:"uid"`
	Load    [3]float64 `json:"load"` // averages when the facts were taken, source proc_loadavg(5)
	Peers   []Peer     `json:"peers"`
	Unknown []string   `json:"unknown,omitempty"` // facts that could not be read, and why
}

// Peer is a program that took part.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// HostFacts reads the facts; what cannot be read is listed and stays zero. The
// versions are those of the subjects that are a Versioner.
func HostFacts(ctx context.Context, subjects []Subject) Host {
	h := Host{Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version(), UID: os.Geteuid(), Peers: []Peer{}}
	miss := func(what string, err error) { h.Unknown = append(h.Unknown, what+": "+err.Error()) }
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		miss("kernel", err)
	}
	h.Kernel = unix.ByteSliceToString(u.Release[:])
	if cgroups, err := cgroup.Detect(); err != nil {
		miss("cgroup", err)
	} else {
		h.Cgroup = cgroups.Mode()
	}
	if text, err := os.ReadFile("/proc/loadavg"); err != nil {
		miss("load", err)
	} else if _, err := fmt.Sscan(string(text), &h.Load[0], &h.Load[1], &h.Load[2]); err != nil {
		miss("load", err)
	}
	for _, s := range subjects {
		v, ok := s.(Versioner)
		if !ok {
			continue
		}
		version, err := v.Version(ctx)
		if err != nil {
			miss("version of "+s.Name(), err)
			continue
		}
		h.Peers = append(h.Peers, Peer{s.Name(), version})
	}
	return h
}

// String is one line for people.
func (h Host) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel %s %s, %d cpus, cgroup %s, %s, uid %d, load %.2f %.2f %.2f",
		h.Kernel, h.Arch, h.CPUs, h.Cgroup, h.Go, h.UID, h.Load[0], h.Load[1], h.Load[2])
	seen := ""
	for _, p := range h.Peers {
		if !strings.Contains(seen, p.Version+"\n") {
			seen += p.Version + "\n"
			b.WriteString(", " + p.Version)
		}
	}
	return b.String()
}
