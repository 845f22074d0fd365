package vmrun

import (
	"time"

	"sandboxd/vm/guest"
)

// Host and guest talk over one virtio-serial port, in frames: a kind, the
// length of the body as four bytes little-endian, the body. The host believes
// nothing of it but what it shows its user.
const (
	// From the guest.
	ready  guest.Kind = 'r' // JSON phases: everything is set up, the program starts next
	failed guest.Kind = '!' // text: the guest could not be set up, or the program not be started
	stdout guest.Kind = 'o'
	stderr guest.Kind = 'e'
	file   guest.Kind = 'f' // JSON returned: a file begins, and ends where the next frame is no data
	data   guest.Kind = 'd'
	exited guest.Kind = 'x' // JSON status; nothing follows

	// To the guest.
	stdin guest.Kind = 'i' // an empty one ends it
)

// port is the name of the virtio-serial port.
const port = "sandboxd.vmrun"

// phases are what the guest measured, in its own time since the kernel began.
type phases struct {
	Kernel  time.Duration // when init began
	Modules time.Duration // when the modules were loaded
	Ready   time.Duration
	Release string // of the kernel
}

type status struct {
	Code   int // of the program; of a signal, 128 and its number, as a shell has it
	Signal int // that ended it, or 0
}

// returned announces a file that comes back.
type returned struct {
	Path string
	Mode uint32
}
