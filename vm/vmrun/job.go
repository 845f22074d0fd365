package vmrun

// job is what the guest is to do: a file of the initramfs.
type job struct {
	Args, Env []string
	Dir       string
	// User runs the program as uid and gid ordinary, with a delegated cgroup on v2.
	User    bool
	Cgroup  string
	Modules []string // in the order to load
	Disks   []mount  // vda, vdb, …
	Network bool
	// Copy are the paths of the initramfs that a root disk is given.
	Copy []string
	// Dirs are made, and are the program's.
	Dirs []string
	// Return are files, or directories of files, that are sent back afterwards,
	// where they exist.
	Return []string
}

type mount struct {
	At string // a directory; "/" is the root of everything
}

const (
	jobFile = "vm/job.json"
	// ordinary is the user that --as user means, and the guest's only one.
	ordinary = 1000
)

// Control groups of a guest.
const (
	cgroupV2     = "v2"
	cgroupHybrid = "hybrid"
	cgroupV1     = "v1"
)
