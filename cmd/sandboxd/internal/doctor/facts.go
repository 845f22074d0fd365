package doctor

import (
	"slices"

	"sandboxd/spawn"
)

const defaultBackend = "native"

// Facts are what was observed of a host. They are plain data, so that hosts
// which are not at hand can be judged too.
type Facts struct {
	Kernel     string // release, as uname -r
	Place      string // what kind of place this is, "" for a plain host
	UID        int
	Privileged bool // can make namespaces and map any id
	Lease      Answer
	Backends   map[string]Answers // by backend and feature
	CgroupMode string
	Cgroups    Answers // by controller
	Landlock   int
	NoLandlock Answer
	Seccomp    []string // actions that the kernel knows
	SubIDs     SubIDs
	Overlay    Answer
	Idmap      Answer
	Notify     Answer
	Clocks     Answer
	SwapBytes  int64
	SwapLimit  Answer
	Memfd      Answer
	Nofile     uint64 // hard limit of open files
	Nproc      uint64 // soft limit of processes
	UserNS     int64  // user.max_user_namespaces
}

// Answer is empty where something works, or says why not.
type Answer struct {
	Observed string `json:",omitempty"`
	Remedy   string `json:",omitempty"`
	Untried  bool   `json:",omitempty"` // something that it needs failed first
}

func (a Answer) ok() bool { return a == Answer{} }

// Answers are named answers.
type Answers map[string]Answer

// SubIDs are the subordinate ids of the user.
type SubIDs struct {
	UIDs  int
	GIDs  int
	Lacks []string // of newuidmap and newgidmap
	Error string
}

func (f *Facts) works(backend string) bool {
	answers := f.Backends[backend]
	for name, a := range answers {
		if !a.ok() && !slices.Contains(spawn.Optional, spawn.Feature(name)) {
			return false
		}
	}
	return len(answers) > 0 && f.Lease.ok()
}
