package launcher

import (
	"os"

	"sandboxd/spawn/plan"
)

// Spawn describes one fork.
type Spawn struct {
	CloneFlags uint64
	Prepare    []plan.Step // run by the launcher first
	Job        []byte      // for Options.Program, in place of Prepare, CloneFlags and the maps
	Before     []plan.Step // run by the new process
	UIDs, GIDs []IDMap     // written for the new process; empty without CLONE_NEWUSER
	DenyGroups bool        // write "deny" to /proc/PID/setgroups first, as an unprivileged mapper must
	KeepKill   bool        // init keeps CAP_KILL
	Files      []*os.File  // arrive in slots from plan.SlotRequest on; the caller keeps its own
	IntoCgroup int         // index in Files of a v2 cgroup directory for CLONE_INTO_CGROUP; -1: none
	OnExit     func()      // called once Child.Exited is closed, by who hears of it: it must not block; may be nil
}

// Child is one forked sandbox. The descriptors belong to the holder.
type Child struct {
	Pidfd    int   // of its init
	Bare     bool  // no pid namespace, not even the launcher's, ends with the init what is below it
	Returned []int // plan.SlotListen and plan.SlotScratch, as far as Prepare filled them
	exited   chan struct{}
	onExit   func()
	exit     Exit
	lost     bool
	unwanted bool // the caller gave up before it was there
}

// Lost reports that the launcher died before the child's exit was known.
func (c *Child) Lost() bool {
	select {
	case <-c.exited:
		return c.lost
	default:
		return false
	}
}

// Exited is closed when the child is dead and everything in its pid namespace with it.
func (c *Child) Exited() <-chan struct{} { return c.exited }

func (c *Child) end() {
	close(c.exited)
	if c.onExit != nil {
		c.onExit()
	}
}

// Exit is valid once Exited is closed; ErrLost if the launcher died before it could tell.
func (c *Child) Exit() (Exit, error) {
	if c.lost {
		return Exit{}, ErrLost
	}
	return c.exit, nil
}
