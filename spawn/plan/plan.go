// Package plan is the compiled form of a spawn: a flat, ordered list of small
// kernel steps that the minimal init executes and nothing else.
//
// A Plan is plain data. It can be printed (`sandboxd explain`), compared in
// golden tests and checked without privilege; nothing in it depends on who
// runs it. Example: the step that names the sandbox is
//
//	plan.Step{Kind: plan.Hostname, Strs: []string{"sandbox"}}
//
// The wire form is read by the minimal init (spawn/launcher/init), which must never be surprised: every step
// states its own size and the exact number of its integers and strings.
//
// Non-goals: deciding anything. Policy is decided before a Plan is compiled;
// a Plan only says what to do, in which order.
package plan

import (
	"encoding/binary"
	"fmt"
)

// Kind names one step. The values are the protocol with the minimal init, in init.h.
type Kind uint16

// The steps. n0.. are Step.Nums, s0.. are Step.Strs. "slot" is an index into
// the descriptor table of the process that executes the plan ([Cwd] means its
// own "/"). Paths marked (root) are resolved below the slot named before them
// with openat2(2) RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS: they cannot leave it.
const (
	_                Kind = iota
	MountPrivate          // make every mount of this namespace private
	Fsmount               // n0 slot, n1 mount attributes; s0 type, s1 options "key\0value\0…": a new superblock, detached
	OpenTree              // n0 slot, n1 flags, n2 attributes to set, n3 to clear, n4 root; s0 path (root; with Cwd, any of the process): a detached bind
	Attach                // n0 root, n1 mount slot, n2 extra RESOLVE_ flags; s0 target (root)
	Setattr               // n0 root, n1 Recursive or 0, n2 set, n3 clear; s0 path (root)
	Mkdir                 // n0 root, n1 mode, n2 uid, n3 gid (NoID: leave), n4 flags; s0 path (root)
	Symlink               // n0 root; s0 the link's text, s1 path (root)
	Mknod                 // n0 root, n1 mode, n2 device; s0 path (root)
	WriteFile             // n0 root, n1 mode, n2 flags; s0 path (root), s1 contents
	Idmap                 // n0 mount slot, n1 uid on disk, n2 uid seen, n3 gid on disk, n4 gid seen
	Pivot                 // n0 slot: pivot_root(2) into it, detach the old root
	Listen                // n0 slot, n1 slot or NoSlot; s0 path: a stream listener, and in n1 a detached bind of its file
	JoinCgroup            // n0 slot of an opened v1 "tasks" file: the child moves itself
	Sync                  // wait until the launcher has written the id maps; EOF means it is gone
	Setid                 // n0 uid, n1 gid, n2 1 = keep supplementary groups
	Unshare               // n0 CLONE_NEW… flags
	Setns                 // n0 slot, n1 CLONE_NEW… flag
	OpenFile              // n0 slot, n1 open(2) flags; s0 path
	NetnsStart            // begin to make a network namespace with loopback up, beside the steps that follow
	NetnsJoin             // wait for it and enter it
	Hostname              // s0
	Loopback              // bring lo up
	Undumpable            // PR_SET_DUMPABLE 0
	Subreaper             // PR_SET_CHILD_SUBREAPER 1
	Keyring               // join a new anonymous session keyring
	Rlimit                // n0 resource, n1 soft, n2 hard
	Umask                 // n0
	Affinity              // s0 raw cpu mask
	OOMScore              // n0 value + 1000
	TimeOffsets           // s0 text for /proc/self/timens_offsets
	Connect               // n0 protocol version, n1 epoch; s0 socket, s1 actor, s2 nonce: dial, say Hello
	Welcome               // wait for Welcome, whose steps follow this section's
	TTY                   // n0 rows, n1 columns, n2 slot, n3 uid, n4 gid: a terminal; its master leaves with Ready
	Stdio                 // n0, n1, n2 slots that become descriptors 0, 1, 2
	Fork                  // n0 1 = own memory image; what follows is the program's process
	Setsid                // n0 1 = descriptor 0 becomes the controlling terminal
	Chdir                 // s0
	Securebits            // n0 SECBIT_… flags
	DropBounding          // empty the bounding set
	DropCaps              // empty every other capability set
	NoNewPrivs            // PR_SET_NO_NEW_PRIVS 1
	LandlockCreate        // n0 handled file access, n1 handled network access, n2 scopes, n3 attribute size
	LandlockPath          // n0 allowed access, n1 flags; s0 path
	LandlockRestrict      // enforce the ruleset
	Seccomp               // n0 SECCOMP_FILTER_FLAG_…; s0 struct sock_filter array
	CloseFrom             // n0: descriptors from here on close at exec
	Confined              // tell the supervisor that confinement is complete, wait for its word
	Exec                  // n0 argc, n1 envc; s0 program, s1 args "a\0…", s2 env, s3 PATH to search ("": s0 is a path)
	LandlockFile          // n0 allowed access, n1 slot: a descriptor's own file; nothing where it lies below no path
	ExecFD                // n0 argc, n1 envc, n2 slot; s0 args "a\0…", s1 env: the program is what the descriptor holds
	Keep                  // n0 slot, n1 descriptor: what the slot holds stays open at exec, as that descriptor
	kindEnd
)

// Slots with a meaning of their own. Descriptors sent with a request arrive
// from SlotRequest on; the last two are handed back to the supervisor.
const (
	SlotRequest = 16
	SlotListen  = 40
	SlotScratch = 41
	Cwd         = 255
	NoSlot      = 255
)

// NoID in a uid or gid field means "leave it".
const NoID = ^uint64(0)

// Flags of OpenTree, Mkdir, WriteFile and LandlockPath.
const (
	Recursive = 1 << iota // OpenTree: submounts too
	Optional              // LandlockPath: an absent path is skipped
	Exist                 // Mkdir, WriteFile: may exist already
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
