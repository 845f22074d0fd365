// Package spawn holds what every backend shares: the contract (Backend,
// Request, Process), the spawn sequence in which the parent waits for its
// peer, and the errors. It is to package sandbox what database/sql/driver is
// to database/sql: sandbox imports it, backends implement it.
//
//	var b spawn.Backend = native.New()
//	p, err := b.Start(ctx, req) // returns when the actor's program runs, or is proved gone
//	exit, err := p.Wait(ctx)
//
// Non-goals: limits and their attribution (package sandbox owns the cgroup),
// and defaults (sandbox resolves a Spec into a Request; nothing is decided twice).
package spawn

import (
	"context"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/ipc"
	"sandboxd/rootfs"
)

// Backend starts actors at one isolation level. Its methods may be called
// concurrently.
type Backend interface {
	// Name is how users pick it: "native", "process".
	Name() string
	// Probe spawns a tiny actor and says what this host can hold. It is not cached here.
	Probe(ctx context.Context) Features
	// Start returns when the program of r runs (its exec succeeded), or when
	// the attempt has failed and nothing of it is left. ctx bounds the start
	// only. Start does not take over descriptors of r; close them afterwards.
	Start(ctx context.Context, r *Request) (Process, error)
	// Close ends every actor of this backend. A second call is nil.
	Close() error
}

// Process is a started actor.
type Process interface {
	// PID is the init's, as this process sees it.
	PID() int
	// Signal sends s to the program; os.ErrProcessDone if the actor has ended. SIGKILL is
	// Kill; SIGSTOP and SIGCHLD, which no init can pass on, are errors.ErrUnsupported.
	Signal(s syscall.Signal) error
	// Kill ends the actor and everything in it. It does not wait; an actor that has ended is fine.
	Kill() error
	// Wait returns when everything in the actor is dead. Any number of callers, any number of times.
	Wait(ctx context.Context) (Exit, error)
	// Terminal is the master of the actor's terminal, nil without one. The Process owns it.
	Terminal() *os.File
	// Scratch is a descriptor on the writable layer for statfs(2), nil without one. The Process owns it.
	Scratch() *os.File
	// Phases say where the time of Start went.
	Phases() []Phase
	// Close kills, reaps and releases. A second call is nil.
	Close() error
}

// Peers is implemented by a Process whose Request had Peer, and by no other:
// its program may connect to the actor's socket.
type Peers interface {
	// Accept waits for the next connection of a process of this actor, other than its init. Those of
	// anybody else are closed, unread, and do not end the wait; so are those of a process that has
	// ended meanwhile. It ends with ctx, and with os.ErrProcessDone when the actor has ended.
	// The Conn is the caller's; its cap is ipc.HandshakeCap.
	Accept(ctx context.Context) (*ipc.Conn, ipc.Cred, error)
	// Shut lets nobody connect any more.
	Shut() error
}

// Foreign is implemented by a backend whose programs are on another kernel than the host's.
type Foreign interface {
	// Overhead is how many of the host's processes that kernel may take for so many of the program's.
	Overhead(processes int64) int64
}

// OtherKernel is implemented by a Process whose program is on another kernel than the host's.
type OtherKernel interface {
	// Kernel names it, with its version.
	Kernel() string
}

// Phase is a named part of a start.
type Phase struct {
	Name string
	Took time.Duration
}

// Exit is how an actor ended. Status is what its init said of the program, or
// where it said nothing, how the init itself ended.
type Exit struct {
	Status       syscall.WaitStatus
	Reported     bool          // the init told the program's status
	User, System time.Duration // CPU of everything in the actor
	MaxRSS       int64         // bytes, of the largest process
	ReadBytes    int64         // from block devices
	WrittenBytes int64
	Guest        *GuestEnd // what a kernel of the actor's own counted; nil without one
}

// GuestEnd is what the backend of a machine says of its end. All but Machine and
// Lost is the word of the guest's kernel, which is the actor's: a hostile one
// may make its own death look like another, and nothing else.
type GuestEnd struct {
	Machine   string // for people: how it runs, with versions
	OOMKills  int64  // in the guest
	PIDsMax   int64  // how often the limit on processes was hit
	DiskFull  bool
	DiskBytes int64
	Lost      string // why the machine ended before its program did; "": it did not
}

// Request is a resolved Spec: facts only. Descriptors stay the caller's.
type Request struct {
	ID   string   // actor id, at most 64 bytes; unique among the live actors of a backend
	Argv []string // Argv[0] is looked up in PATH of Env when it has no slash
	Env  []string // KEY=value; the whole environment
	// Exe is the program's image where it is not a path: a sealed memfd or a
	// regular file, executed with execveat(2) and closed by it. Argv[0] is then
	// only a name. No script, for its interpreter would have no path to open.
	Exe *os.File
	Dir string // working directory inside; absolute

	UID, GID int      // of the program, as it sees itself
	Host     *HostIDs // ids of its own on the host; nil: one id, the caller's

	Root     rootfs.Source
	Tree     *os.File // unpacked contents of a Tar root
	Mounts   []rootfs.Mount
	Scratch  Scratch
	Hostname string

	HostNetwork bool
	Netns       *os.File // a network namespace made ahead; nil: a fresh one (or the host's)
	Alone       bool     // while it lives, the backend starts no other actor
	TimeNS      bool     // clocks that start at zero

	Tasks  []*os.File // opened v1 "tasks" files that the actor's init joins
	Cgroup *os.File   // v2 directory that it is cloned into; nil: none

	Rlimits  []Rlimit
	Affinity []byte // cpu mask; nil: all
	Umask    uint32

	// Memory and CPUs are what the actor's cgroup holds it to, for a backend that
	// has to divide it: bytes, and processors. Zero: no limit is known. PIDs is the
	// limit on processes where the backend's own kernel counts them.
	Memory, PIDs int64
	CPUs         float64

	Filter   []byte // seccomp program; nil: none
	Notify   bool   // the filter's denials are told to Inspect's listener
	Landlock bool

	// Private is the actor's own directory on the host, where the backend has no private root.
	Private string

	// Peer leaves the actor's socket open for the program: at DefaultSocket, or
	// where SocketEnv says, which a backend without a private root adds to Env.
	Peer bool

	Stdio    [3]*os.File
	Terminal *Winsize // a terminal instead of Stdio

	// Guest, which only backends set, is for a program that is a boundary itself, such as a kernel in user
	// space: the native backend then gives it a directory and descriptors. Nil: any other program.
	Guest *Guest

	// Inspect, if set, is called when the program's process is confined and
	// has not yet executed anything of the program's: pid is that process,
	// listener the seccomp listener with Notify (Inspect owns it). An error stops the start.
	Inspect func(pid int, listener *os.File) error
}

// Guest is what such a program gets besides.
type Guest struct {
	Files []GuestFile // in GuestDir, which is in memory and the program's own
	Keep  []*os.File  // descriptors that it keeps, numbered from GuestFD on
}

// GuestFile is a file of the size of a configuration, which its program may read.
type GuestFile struct{ Name, Text string }

const (
	// GuestDir is where the files are, in a directory of few megabytes.
	GuestDir = "/run/sandboxd/s"
	// GuestFD is above every descriptor of the init's own.
	GuestFD = 100
)

// HostIDs are an actor's own ids on the host: one for the init, one for the program.
type HostIDs struct {
	InitUID, InitGID, UID, GID int
}

// Scratch bounds everything writable of an actor together. Zero Bytes: no writable places.
type Scratch struct {
	Bytes, Inodes int64
}

// Rlimit is one setrlimit(2).
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// Winsize is a terminal's size in characters.
type Winsize struct{ Rows, Cols uint16 }

// Feature is something that a backend may or may not hold on this host.
type Feature string

// The features. Reports and gates use these words.
const (
	UserNS, PIDNS, MountNS, NetNS      Feature = "userns", "pidns", "mountns", "netns"
	UTSNS, IPCNS, CgroupNS, TimeNS     Feature = "utsns", "ipcns", "cgroupns", "timens"
	PivotRoot, ReadOnlyRoot            Feature = "pivot-root", "read-only-root"
	NoNewPrivs, NoCapabilities, Filter Feature = "no-new-privs", "no-capabilities", "seccomp"
	Landlock, TwoIDs, DiskLimit        Feature = "landlock", "two-ids", "disk-limit"
	Terminal, KillWhole, PeerSocket    Feature = "terminal", "kill-whole", "peer-socket"
	Rootless, Helper, Kernel           Feature = "rootless", "helper", "kernel"
	Executables, WASI, Fuel            Feature = "executables", "wasi", "fuel"
	VMM, GuestKernel                   Feature = "vmm", "guest-kernel"
)

// Features maps a feature to nil where the backend holds it here, or to why
// not (*Gate). A feature that is absent from the map is not this backend's.
type Features map[Feature]error

// Optional are the features without which a backend still starts programs.
var Optional = []Feature{Landlock, TwoIDs, TimeNS, Terminal, Fuel}

// Hold is why not all of want are held, a *Gate; nil: they are. Without any it
// is about all that a backend needs to start programs.
func (f Features) Hold(want ...Feature) error {
	if len(f) == 0 {
		return &Gate{Feature: "spawn", Observed: "the backend says nothing of this host"}
	}
	if len(want) == 0 {
		for name := range f {
			if !slices.Contains(Optional, name) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
	}
	for _, name := range want {
		err, known := f[name]
		if !known {
			err = &Gate{Feature: name, Observed: "it is not this backend's", Remedy: "use one that has it"}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Resource names for Rlimit.
const (
	RlimitNofile = unix.RLIMIT_NOFILE
	RlimitFsize  = unix.RLIMIT_FSIZE
	RlimitCore   = unix.RLIMIT_CORE
)

// OOMScore is the oom_score_adj of actors: the host's OOM killer prefers them
// over the host's own programs, and a protected score of the caller is undone.
const OOMScore = 500
