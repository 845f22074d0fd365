package abuse

// columns are the backends, in the order of the matrix. What a case wants is
// what most do; an entry here says where one differs, and why.
func columns() []column {
	const (
		mounts   = "refused # without a mount namespace nothing is let in"
		inet     = "EAFNOSUPPORT # without a network namespace there are no Internet sockets at all"
		shared   = "OK # without an IPC namespace it is the host's, for whoever its mode lets in"
		signals  = "EPERM; without own-ids and landlock-scopes: OK # the program is the caller to it, and Landlock of this kernel does not hold signals"
		theInit  = "OK # on gVisor the init has the program's id; it harms the sandbox's own only"
		number   = "OK # a number of gVisor's: the host's is as it was"
		affinity = "EPERM; without own-ids: OK # the program is the caller to it; no seccomp filter can tell a thread of one's own from another process"
	)
	return []column{
		{backend: "native"},
		{backend: "container", except: map[string]string{
			"filesystem/kernel-facts": hidden + "|empty # what is masked is /dev/null",
		}},
		{backend: "gvisor", except: map[string]string{
			"filesystem/devices":       "OK # /dev/fuse and /dev/net/tun are gVisor's own: none of the host's is in reach",
			"filesystem/sockets":       "ENOENT|ENXIO # the actor's own socket, which is to be connected to",
			"filesystem/system-create": "ENOTSUP",
			"filesystem/own-program":   "OK # the mode that gVisor keeps for a program that came by descriptor; the host's file keeps its own",
			"process/init-namespace":   "OK # gVisor's, of the sandbox's own",
			"process/init-prlimit":     theInit,
			"process/init-priority":    theInit,
			"process/init-affinity":    theInit,
			"process/init-stop":        "timeout # as before: nothing runs until the time is up",
			"process/init-kill":        "lost # as before: the actor ends",
			"process/init-pidfd-kill":  "lost # as before: the actor ends",
			"process/realtime":         "EINVAL # gVisor has no such class",
			"process/nice":             number,
			"process/oom-adj":          number,
			"ipc/lock":                 "unseen # gVisor keeps locks to itself",
			"leak/oom-score":           number,
			"leak/paths":               "OK # the table is gVisor's: it says / of every file system, wherever that lies",
			"leak/mount-source":        "none; without idmapped-mounts: refused",
			"handshake/descriptors":    "not sent # gVisor lets no descriptor out",
			"resource/fork":            "EAGAIN # gVisor's kernel refuses, as the limit says, and tells nobody",
			"resource/threads":         "exited # as before",
			"resource/memory-tmp":      "on disk; without cgroup-memory: refused # /tmp does not look like memory there, so the attack gives up; it counts as memory all the same",
		}},
		{
			backend: "microvm", slow: 10, memory: 256 << 20,
			facts: map[string]bool{ // Debian's 6.1, with control groups of version 2
				"own-ids": true, "root": true, "landlock-truncate": false, "landlock-scopes": false, "exec-seals": false,
				"cgroup-memory": true, "cgroup-pids": true, "cgroup-cpu": true, "cgroup-cpu-time": true,
			},
			except: map[string]string{
				"network/socket-in-a-directory": "ECONNREFUSED # the guest sees the file by 9p; the socket is in another kernel",
				"ipc/lock":                      "unseen # as before: the lock is the guest's own",
				"leak/mount-source":             "none # the guest's table has a number",
			},
		},
		{backend: "process", except: map[string]string{
			"filesystem/granted-*":          mounts,
			"filesystem/truncate":           "EACCES; without landlock-truncate: OK # Landlock of this kernel does not hold it, and there is no other wall; the report says so",
			"network/socket-in-a-directory": mounts,
			"leak/mount-source":             mounts,
			"setup/mount-race":              mounts,
			"network/raw*":                  inet,
			"network/raw-ipv6":              inet,
			"network/sctp":                  inet,
			"network/mptcp":                 inet,
			"network/loopback-*":            inet,
			"network/ping-range":            inet,
			"network/interfaces":            inet,
			"network/xfrm":                  "EAFNOSUPPORT",
			"network/netfilter":             "EAFNOSUPPORT",
			"network/audit":                 "EAFNOSUPPORT",
			"network/uevent":                "EAFNOSUPPORT",
			"network/abstract":              "EPERM; without landlock-scopes: OK # Landlock of this kernel does not hold it, and there is no other wall",
			"network/socket-by-path":        "OK # Landlock does not hold connecting by path: a socket answers whoever its mode lets in",
			"ipc/sysv-*":                    shared,
			"leak/paths":                    "OK # without a mount namespace the host's table is seen",
			"leak/cgroup":                   "OK; without cgroup-pids: none # without a cgroup namespace its path is seen",
			"leak/keyring":                  "none; without own-ids: OK # a user's keyrings show to all of that user's processes; the calls that use them are forbidden",
			"process/init-stop":             "EPERM; without own-ids and landlock-scopes: timeout # the init has the program's id, and the kernel does not shield it here",
			"process/init-kill":             "EPERM; without own-ids and landlock-scopes: SIGKILL # as before: the actor ends",
			"process/init-pidfd-kill":       "EPERM; without own-ids and landlock-scopes: SIGKILL # as before: the actor ends",
			"process/init-prlimit":          "EPERM",
			"process/init-priority":         "EPERM|EACCES",
			"process/outsider-stop":         signals,
			"process/outsider-kill":         signals,
			"process/outsider-pidfd-kill":   signals,
			"process/outsider-affinity":     affinity,
			"process/neighbour-stop":        signals,
			"process/neighbour-kill":        signals,
			"process/neighbour-pidfd-kill":  signals,
			"process/neighbour-affinity":    affinity,
			"process/kill-all":              "spared; without own-ids and landlock-scopes: OK # it could reach what the caller has running",
			"process/bounding-set":          "none; without root: OK # only root can empty it; no_new_privs is what holds",
			"resource/fork":                 "pids; without cgroup-pids: refused",
			"resource/threads":              "pids; without cgroup-pids: refused",
			"resource/disk":                 "refused # without mounts there is no limit on disk use",
			"resource/inodes":               "refused # without mounts there is no limit on disk use",
			"resource/memory-tmp":           "oom|on disk; without cgroup-memory: refused # the host's disk, whose cache is given back, has no limit without mounts",
			"resource/memory-shm":           "EACCES; without cgroup-memory: refused",
		}},
	}
}
