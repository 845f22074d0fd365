package plan

import (
	"fmt"
	"math"
	"strings"
)

// words say what each kind does and why, to a reader who meets it first.
// {operand} stands for a value as Step.Fields shows it.
var words = [kindEnd]string{
	MountPrivate:     "keep every mount made from here on to ourselves: the host sees none of them",
	Fsmount:          "make a {type} file system of its own, which nobody else has open",
	OpenTree:         "take hold of {path} as it is now, to mount it elsewhere",
	Attach:           "mount it at {target}; no link can lead this out of the new root",
	Setattr:          "make the mount at {path} read-only",
	Mkdir:            "make the directory {path}",
	Symlink:          "make the link {path} to {text}",
	Mknod:            "make the harmless device {path}",
	WriteFile:        "make the file {path}",
	Idmap:            "show the owner of these files (uid {disk-uid}) as the actor's own id, so that it needs no right of the owner's",
	Pivot:            "make this the root: the host's own root is gone from view",
	Listen:           "listen where the init will report, before it exists",
	JoinCgroup:       "enter the actor's cgroup: its limits hold from here on",
	Sync:             "wait until the user ids are mapped; end if the launcher has died",
	Setid:            "become uid {uid}, gid {gid}",
	Unshare:          "leave the {flags} namespace for one of its own",
	Setns:            "enter a namespace that was made ahead",
	OpenFile:         "open {path}",
	Hostname:         "call this host {name}; the real name stays hidden",
	NetnsStart:       "begin to make an empty network, with loopback only, while the next steps go on",
	NetnsJoin:        "enter that network: programs may talk to themselves, to nobody else",
	Loopback:         "switch loopback on: programs may talk to themselves, to nobody else",
	Undumpable:       "nobody in the sandbox may trace or read this init",
	Subreaper:        "adopt orphans, so that none is left behind",
	Keyring:          "take an empty session keyring, so that the caller's keys are out of reach",
	Rlimit:           "limit {resource} to {soft}, at most {hard}",
	Umask:            "new files get permissions by umask {mask}",
	Affinity:         "run on the chosen CPUs only",
	OOMScore:         "when the host runs out of memory, this dies before the host's own programs",
	TimeOffsets:      "start its clocks at zero: how long the host has been up stays hidden",
	Connect:          "say hello to the supervisor, which checks who calls by what the kernel says of it",
	Welcome:          "wait for the rest of the plan",
	TTY:              "make a terminal of {rows} rows and {columns} columns inside; the caller's own is never handed in",
	Stdio:            "connect stdin, stdout and stderr to the supervisor's pipes or the new terminal",
	Fork:             "split: the init stays and reaps, what follows is the program's own process",
	Setsid:           "begin a session, so that signals meant for others do not reach it",
	Chdir:            "go to {path}, with the program's own rights",
	Securebits:       "make uid 0 mean nothing: no capability ever comes from an id again",
	DropBounding:     "empty the bounding set: no program file can bring a capability back",
	DropCaps:         "give up every capability",
	NoNewPrivs:       "no set-user-id program gains anything from here on",
	LandlockCreate:   "begin a second wall around files, independent of the mounts",
	LandlockPath:     "let {path} through that wall, with the rights listed",
	LandlockRestrict: "close the wall; it cannot be opened again",
	Seccomp:          "allow listed system calls only; the filter cannot be removed",
	CloseFrom:        "close every other descriptor at exec: nothing of ours leaks in",
	Confined:         "tell the supervisor that confinement is complete, so that it can read it back; wait for its word",
	Exec:             "run {program}",
	LandlockFile:     "let the program's own image through that wall",
	ExecFD:           "run the program that was handed in as a descriptor, which it does not get to hold",
	Keep:             "leave it this one descriptor, as {as}",
}

// rlimits are the names of setrlimit(2) resources, by number.
var rlimits = [...]string{
	"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
}

// Words is one line for people: what the step does and why.
func (s Step) Words() string {
	if s.Kind == 0 || s.Kind >= kindEnd {
		return s.String()
	}
	text := words[s.Kind]
	for _, f := range s.Fields() {
		text = strings.ReplaceAll(text, "{"+f.Name+"}", s.plain(f))
	}
	return text
}

// plain says an operand that Fields shows as a number the way people do.
func (s Step) plain(f Field) string {
	switch {
	case s.Kind == Rlimit && f.Name == "resource" && s.Nums[0] < uint64(len(rlimits)):
		return rlimits[s.Nums[0]]
	case s.Kind == Rlimit && f.Value == fmt.Sprint(uint64(math.MaxUint64)):
		return "unlimited"
	case s.Kind == Unshare:
		return Namespaces(s.Nums[0])
	}
	return strings.Trim(f.Value, `"`)
}

// Namespaces names those of CLONE_NEW… flags (clone(2)), such as "mount, pid".
func Namespaces(flags uint64) string {
	var names []string
	for _, n := range []struct {
		flag uint64
		name string
	}{
		{0x80, "time"},
		{0x20000, "mount"},
		{0x02000000, "cgroup"},
		{0x04000000, "uts"},
		{0x08000000, "ipc"},
		{0x10000000, "user"},
		{0x20000000, "pid"},
		{0x40000000, "network"},
	} {
		if flags&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ", ")
}
