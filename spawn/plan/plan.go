// Package plan is the compiled form of a spawn: a flat, ordered list of small
// kernel steps that the minimal init executes and nothing else.
//
// A Plan is plain data. It can be printed (`sandboxd explain`), compared in
// golden tests and checked without privilege; nothing in it depends on who
// runs it. Example: the step that names the sandbox is
//
//	plan.Step{Kind: plan.Hostname, Strs: []string{"sandbox"}}
//
// The wire form is read by init.c, which must never be surprised: every step
// states its own size and the exact number of its integers and strings.
//
// Non-goals: deciding anything. Policy is decided before a Plan is compiled;
// a Plan only says what to do, in which order.
package plan

import (
	"encoding/binary"
	"fmt"
)

// Kind names one step. The values are the protocol with init.c: append only.
type Kind uint16

// The steps. Each comment is the step's contract: a0.. are Step.Nums, s0.. are
// Step.Strs. "slot" is an index into the descriptor table of the process that
// executes the plan; paths marked (root) are resolved below slot a0 with
// openat2(2) RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS.
const (
	_              Kind = iota
	MountPrivate        // make every mount of this namespace private
	Fsmount             // a0 slot, a1 fsmount attrs; s0 type, s1 "key\0value\0…" options
	OpenTree            // a0 slot, a1 flags (Recursive|Optional|Empty), a2 attr set, a3 attr clear, a4 source slot (Empty); s0 path
	Attach              // a0 root slot, a1 mount slot, a2 resolve flags; s0 target (root)
	Setattr             // a0 root slot, a1 recursive, a2 attr set, a3 attr clear; s0 path (root)
	Mkdir               // a0 root slot, a1 mode, a2 uid, a3 gid (or NoID), a4 flags (Exist: may exist); s0 path (root)
	Symlink             // a0 root slot; s0 target text, s1 path (root)
	Mknod               // a0 root slot, a1 mode, a2 dev; s0 path (root)
	WriteFile           // a0 root slot, a1 mode; s0 path (root), s1 contents
	Idmap               // a0 mount slot, a1 disk uid, a2 host uid, a3 disk gid, a4 host gid
	Pivot               // a0 new-root slot: pivot_root(2) into it and detach the old root
	Chroot              // unused position kept for the protocol
	Listen              // a0 slot: AF_UNIX SOCK_STREAM listener; s0 absolute path, mode 0666
	JoinCgroup          // a0 slot of an opened v1 `tasks` file: write "0"
	Setid               // a0 uid, a1 gid, a2 keep supplementary groups
	Unshare             // a0 clone flags
	Hostname            // s0
	Loopback            // bring lo up
	Undumpable          // PR_SET_DUMPABLE 0
	Keyring             // join a new anonymous session keyring
	Rlimit              // a0 resource, a1 soft, a2 hard
	Umask               // a0
	Affinity            // s0 raw cpu mask
	OOMScore            // a0 (offset by 1000) to /proc/self/oom_score_adj
	TimeOffset          // s0 text for /proc/self/timens_offsets
	Connect             // a0 protocol version, a1 epoch; s0 socket path, s1 actor id, s2 nonce: dial, Hello, wait for Welcome
	TTY                 // allocate a terminal below slot a0 (root); a1 rows, a2 cols: becomes stdio 0..2, master is sent out
	Stdio               // a0,a1,a2 slots for descriptors 0,1,2
	Fork                // what follows is executed by the program's process only
	Setsid              // a0: 1 = make descriptor 0 the controlling terminal
	Chdir               // s0
	Securebits          // a0 bits
	DropBounding        // drop every capability from the bounding set
	DropCaps            // empty all capability sets
	NoNewPrivs          //
	Landlock            // a0 handled fs, a1 handled net, a2 scoped, a3 ABI: restrict with the rules of the following LandlockPath steps
	LandlockPath        // a0 allowed access; s0 path; must precede Landlock
	Seccomp             // a0 flags (SECCOMP_FILTER_FLAG_*); s0 raw sock_filter array
	CloseFrom           // a0 first: mark every descriptor >= a0 close-on-exec
	Confined            // announce confinement to the supervisor and wait for its word
	Exec                // a0 argc, a1 envc; s0 path, s1 args "a\0b\0", s2 env, s3 PATH list for lookup ("" = s0 is a path)
	kindEnd
)

// NoID in a uid or gid field means "leave it".
const NoID = ^uint64(0)

// Flags of OpenTree and Mkdir.
const (
	Recursive = 1 << iota
	Optional  // absent source: leave the slot empty; Attach then skips it
	Empty     // clone the tree that slot a4 refers to (AT_EMPTY_PATH)
	Exist     // Mkdir: an existing directory is fine
)

// Step is one instruction. Strs may hold arbitrary bytes.
type Step struct {
	Kind Kind
	Nums []uint64
	Strs []string
}

// Limits of the wire form, checked on both sides.
const (
	MaxNums  = 8
	MaxStrs  = 4
	MaxBytes = 1 << 20 // of one encoded section
	headSize = 8
)

// Append encodes steps after b.
//
//	step = kind u16, nums u8, strs u8, size u32 (whole step, multiple of 8),
//	       nums × u64, strs × (len u32, bytes, NUL), padding
//
// All integers are little-endian, which every supported machine is natively.
func Append(b []byte, steps []Step) ([]byte, error) {
	for i, s := range steps {
		if s.Kind == 0 || s.Kind >= kindEnd || len(s.Nums) > MaxNums || len(s.Strs) > MaxStrs {
			return nil, fmt.Errorf("plan: step %d (%v): %d numbers and %d strings do not fit a step", i, s.Kind, len(s.Nums), len(s.Strs))
		}
		start := len(b)
		b = binary.LittleEndian.AppendUint16(b, uint16(s.Kind))
		b = append(b, byte(len(s.Nums)), byte(len(s.Strs)), 0, 0, 0, 0)
		for _, n := range s.Nums {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		for _, str := range s.Strs {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(str)))
			b = append(b, str...)
			b = append(b, 0)
		}
		for (len(b)-start)%8 != 0 {
			b = append(b, 0)
		}
		binary.LittleEndian.PutUint32(b[start+4:], uint32(len(b)-start))
		if len(b) > MaxBytes {
			return nil, fmt.Errorf("plan: step %d (%v): section exceeds %d bytes; pass fewer arguments or environment variables", i, s.Kind, MaxBytes)
		}
	}
	return b, nil
}
