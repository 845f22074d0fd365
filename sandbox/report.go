package sandbox

import "time"

// ReportSchema versions the JSON form of Report.
const ReportSchema = "sandboxd.report/v1"

// Reason is why an actor ended.
type Reason string

// The reasons, a closed set.
const (
	Exited      Reason = "exited"       // by itself; Code is its own
	Signaled    Reason = "signaled"     // by a signal that no limit explains
	OOM         Reason = "oom"          // the memory limit
	PIDs        Reason = "pids"         // failed after the limit on processes was hit
	Timeout     Reason = "timeout"      // the wall time limit
	CPUTime     Reason = "cpu-time"     // the CPU time limit
	Disk        Reason = "disk"         // failed with the writable layer full, or a file too large
	Output      Reason = "output"       // the output limit
	Syscall     Reason = "syscall"      // a forbidden system call, named in Detail
	Cancelled   Reason = "cancelled"    // by the caller; Detail says who
	Lost        Reason = "lost"         // its launcher, its init or its supervision died
	SpawnFailed Reason = "spawn-failed" // it never ran; Detail names step and object
)

// Report is what happened to an actor. Its JSON is the schema that
// `sandboxd run --report` writes.
type Report struct {
	Schema    string    `json:"schema"`
	Actor     ActorID   `json:"actor"`
	Backend   string    `json:"backend"`
	Choice    Choice    `json:"choice"`
	Isolation Isolation `json:"isolation"`
	Exit      Exit      `json:"exit"`
	Usage     Usage     `json:"usage"`
	Spawn     SpawnTime `json:"spawn"`
}

// ActorID names an actor.
type ActorID struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Isolation is what held. Enforced is read back from the kernel (namespace
// inodes, /proc status lines, cgroup files), never copied from the request.
type Isolation struct {
	Enforced []string  `json:"enforced"`
	Guest    []string  `json:"guest,omitempty"` // what a kernel of the actor's own holds besides, by its own word
	Missing  []Missing `json:"missing"`
	Network  string    `json:"network"`           // none or host
	Machine  string    `json:"machine,omitempty"` // of a backend of machines: how it runs, with versions
}

// Missing is something that did not hold, and why.
type Missing struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// Exit is the end. Code follows the shell's habit: the program's own, 128+n for
// signal n, 124 our timeout, 125 our failure, 126 not runnable, 127 not found.
type Exit struct {
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"` // such as SIGKILL
	Reason Reason `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// Usage is what the actor used. Times are nanoseconds.
type Usage struct {
	Wall        time.Duration `json:"wall_ns"`
	User        time.Duration `json:"user_ns"`
	System      time.Duration `json:"system_ns"`
	MemoryPeak  int64         `json:"memory_peak_bytes"`
	PIDsPeak    int64         `json:"pids_peak"`
	ReadBytes   int64         `json:"io_read_bytes"`
	WriteBytes  int64         `json:"io_write_bytes"`
	OutputBytes int64         `json:"output_bytes"`
	DiskBytes   int64         `json:"disk_bytes"` // left in the writable layer at the end
}

// SpawnTime says where the time of the start went; the phases sum to nearly all of Total.
type SpawnTime struct {
	Total  time.Duration `json:"total_ns"`
	Phases []Phase       `json:"phases"`
}

// Phase is a named part of the start.
type Phase struct {
	Name string        `json:"name"`
	Took time.Duration `json:"ns"`
}
