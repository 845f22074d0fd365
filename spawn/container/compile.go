package container

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"sandboxd/spawn"
	"sandboxd/spawn/container/job"
	"sandboxd/spawn/plan"
)

// compile is what the helper makes: the container around the init.
func compile(r *spawn.Request, rootless bool) job.Job {
	j := job.Job{
		Version: job.Version, Rootless: rootless, UID: r.UID, GID: r.GID,
		Root: r.Root, Mounts: r.Mounts, Scratch: job.Scratch(r.Scratch), Hostname: r.Hostname,
		HostNetwork: r.HostNetwork, Netns: -1, Cgroup: spawn.CgroupAt(r), TimeNS: r.TimeNS, OOMScore: spawn.OOMScore, Socket: spawn.DefaultSocket,
	}
	if r.Host != nil {
		j.Host = job.Host(*r.Host)
	}
	if r.Netns != nil {
		j.Netns = len(spawn.Files(r)) - 1 // it travels last
	}
	return j
}

// before is what the init does in the container, up to the program.
func before(r *spawn.Request, id spawn.Identity) ([]plan.Step, error) {
	s := spawn.JoinSteps(r)
	add := func(k plan.Kind, nums []uint64, strs ...string) {
		s = append(s, plan.Step{Kind: k, Nums: nums, Strs: strs})
	}
	add(plan.Unshare, []uint64{unix.CLONE_NEWCGROUP}) // after joining, so that the actor's own cgroup is its root
	add(plan.Keyring, nil)
	mask := r.Affinity
	if mask == nil { // libcontainer has reset the caller's
		mask = callers()
	}
	add(plan.Affinity, nil, string(mask))
	add(plan.Undumpable, nil)
	s = append(s, id.Connect(spawn.DefaultSocket))
	confine, err := spawn.Confine(r, true)
	s = append(s, confine...)
	add(plan.Welcome, nil)
	return s, err
}

// callers is the CPU mask of this process, in the kernel's form. With none, which
// is no answer of a kernel's, the step says so.
func callers() []byte {
	var set unix.CPUSet
	_ = unix.SchedGetaffinity(0, &set)
	mask := make([]byte, unsafe.Sizeof(set))
	for cpu := range 8 * len(mask) {
		if set.IsSet(cpu) {
			mask[cpu/8] |= 1 << (cpu % 8)
		}
	}
	return mask
}
