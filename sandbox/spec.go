package sandbox

import (
	"io"
	"time"

	"sandboxd/rootfs"
	"sandboxd/spawn"
)

// Spec is what a user wants of one actor. It is plain data but for the
// streams; the zero value of every field is the safe default that its comment
// names. A Spec is enforced whole or refused, see [Limits] and BestEffort.
type Spec struct {
	Name string   // for people; "": the base name of Argv[0]
	Argv []string // the program and its arguments; a name without a slash is looked up in PATH inside
	Env  []string // KEY=value, added to the default environment (PATH, HOME, USER, LANG), which it may override
	Dir  string   // working directory inside; "": the private home, or "/" where the root is the user's own
	User *User    // who the program is, as it sees itself; nil: 1000:1000

	Root     rootfs.Source  // zero: the host's system directories, read-only
	Mounts   []rootfs.Mount // pieces of the host to let in, read-only unless said
	Hostname string         // "": sandbox
	Network  Network        // zero: none, loopback only

	Limits     Limits
	BestEffort bool // run without a required limit that this host cannot enforce, and list it in Report.Isolation.Missing

	Backend     string // one of Backends, or Auto; "": native, or Auto where Isolation is set
	Isolation   Floor  // the least that the boundary must be; "": what Backend is, and for Auto FloorNamespace
	SeccompKill bool   // a forbidden system call ends the actor (reason syscall) instead of failing with EPERM
	TimeNS      bool   // clocks of its own that start at zero
	Peer        bool   // the program may connect to its supervisor, see docs/protocol.md
	ReadBack    bool   // fill Report.Isolation from the kernel; costs about a millisecond before the program starts

	// What follows is for programs with Peer, in a Nursery.
	Serve       *Mux            // verbs that the program may call of us, besides those of the nursery; nil: none
	Kinds       map[string]Spec // what children it may start, by kind; inside its own limits, and gone when it is
	Finds       bool            // it may look up the tree's actors by name, and call them
	BootTimeout time.Duration   // from the program's start to its hello; 0: 10 s

	Stdin          io.Reader // nil: empty
	Stdout, Stderr io.Writer // nil: discarded, but counted
	// Terminal runs the program on a terminal of its own instead: Stdin feeds
	// it, Stdout receives what it shows, Stderr is not used.
	Terminal *spawn.Winsize

	self bool // the program is this same one, and Argv[0] a name; see Func and This
}

// User is a uid and gid inside the sandbox.
type User struct{ UID, GID int }

// Network is what of the network an actor sees.
type Network string

const (
	NetNone Network = ""     // a network namespace with loopback only
	NetHost Network = "host" // the host's; said aloud in the report
)

// Unlimited switches a limit off that would otherwise have its default.
const Unlimited = -1

// Limits are hard. For each field the zero value means the default, which is
// preferred: held wherever the host allows and listed as missing in the report
// where it does not. A value that somebody wrote is required: a host that
// cannot enforce it refuses the Spec, unless BestEffort. [Unlimited] is no limit.
type Limits struct {
	Memory     int64         // bytes, page cache and private files included; default 512 MiB, at most half of the host's
	MemorySwap int64         // bytes of memory and swap together, as docker's --memory-swap; default: equal to Memory, no swap
	CPUs       float64       // CPU bandwidth in CPUs; default: all but a little (the host's CPUs minus 0.1)
	CPUSet     string        // CPUs to run on, such as "0,2-3"; default: all
	CPUTime    time.Duration // CPU time of everything in the actor together; default: none
	Timeout    time.Duration // wall time from the program's start; default: none
	PIDs       int64         // processes and threads together; default 256
	Ulimits    []Ulimit      // setrlimit(2); default nofile 1024, core 0
	FileSize   int64         // bytes of the largest file; default: none
	Disk       int64         // bytes of everything writable together; default 256 MiB
	DiskInodes int64         // files and directories of everything writable together; default 65536
	Output     int64         // bytes of stdout and stderr together; default 1 GiB
}

// Ulimit is one setrlimit(2) by docker's name, such as nofile. -1 is unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}
