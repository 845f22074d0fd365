package doctor

import (
	"fmt"
	"math"
	"strings"
)

// subordinate ids matter to ordinary users; root has ids of its own to give.
func subordinate(f *Facts) []Finding {
	x := Finding{Name: "subordinate-ids", State: Info, Observed: "not needed: root gives each actor host ids of its own", Why: "whether actors of one user are told apart by user id"}
	if f.Privileged {
		return []Finding{x}
	}
	x.Unlocks = []string{"native/two-ids"}
	switch s := f.SubIDs; {
	case s.Error != "":
		x.State, x.Observed, x.Fix = Missing, s.Error, "correct the line; each is USER:START:COUNT"
		x.Unlocks = []string{"native", "process"}
	case len(s.Lacks) > 0:
		x.State, x.Observed, x.Fix = Weak, strings.Join(s.Lacks, " and ")+" not found", "install the package uidmap (shadow-utils on Fedora)"
	case min(s.UIDs, s.GIDs) < 2:
		x.State, x.Observed = Weak, fmt.Sprintf("%d subordinate uids and %d gids", s.UIDs, s.GIDs)
		x.Fix = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
	default:
		x.State, x.Observed = OK, fmt.Sprintf("%d subordinate uids and %d gids", s.UIDs, s.GIDs)
	}
	return []Finding{x}
}

func roots(f *Facts) []Finding {
	all := say("overlay", f.Overlay, Weak, "a directory became a writable root", "takes an actor's changes to a root, and forgets them", "--root DIR", "--root ARCHIVE", "--writable")
	if f.Privileged {
		a := f.Idmap
		if a.Remedy == "" && !a.ok() && !a.Untried {
			a.Remedy = "set TMPDIR to a directory on ext4, xfs, btrfs or tmpfs, and keep what you mount there"
		}
		all = append(all, say("idmapped-mounts", a, Weak, "works", "lets an actor with an id of its own use your files as if it owned them", "--mount", "--root DIR")...)
	}
	return all
}

func clocks(f *Facts) []Finding {
	return say("time-namespace", f.Clocks, Weak, "works", "clocks that start at zero", "--time-ns")
}

func swap(f *Facts) []Finding {
	good := "swap is counted with memory"
	if f.SwapBytes == 0 {
		good = "this host has no swap"
	}
	a := f.SwapLimit
	if !f.Cgroups["memory"].ok() {
		a = Answer{Observed: "not tried: memory cannot be limited", Untried: true}
	}
	return say("swap", a, Weak, good, "a memory limit means little where a program may swap", "--memory", "--memory-swap")
}

func memfd(f *Facts) []Finding {
	a := f.Memfd
	if !a.ok() && a.Remedy == "" {
		a.Remedy = "sysctl -w vm.memfd_noexec=0 (or 1)"
	}
	return say("memfd-exec", a, Missing, "works", "the launcher is started from a sealed file in memory", "native", "process")
}

// Below these, ordinary programs and ordinary numbers of actors run into trouble.
const (
	fewFiles     = 1024
	fewProcesses = 1024
	fewUserNS    = 64
)

func ulimits(f *Facts) []Finding {
	nofile := Finding{Name: "ulimit/nofile", State: OK, Observed: count(f.Nofile), Why: "each live actor takes some descriptors of its supervisor's", Unlocks: []string{"many actors"}}
	if f.Nofile < fewFiles {
		nofile.State, nofile.Fix = Weak, "raise the hard limit: ulimit -Hn 65536, or LimitNOFILE= of the service"
	}
	nproc := Finding{Name: "ulimit/nproc", State: OK, Observed: count(f.Nproc), Why: "an ordinary user's actors count as that user's processes", Unlocks: []string{"many actors"}}
	if !f.Privileged && f.Nproc < fewProcesses {
		nproc.State, nproc.Fix = Weak, "raise it: ulimit -u 4096, or TasksMax= and LimitNPROC= of the service"
	}
	userns := Finding{Name: "user-namespaces", State: OK, Observed: fmt.Sprintf("user.max_user_namespaces is %d", f.UserNS), Why: "each native actor takes one, and one for its launcher", Unlocks: []string{"native"}}
	switch {
	case f.UserNS < 0:
		userns.State, userns.Observed, userns.Fix = Missing, "no /proc/sys/user/max_user_namespaces", "boot a kernel with CONFIG_USER_NS"
	case f.UserNS == 0:
		userns.State, userns.Fix = Missing, "sysctl -w user.max_user_namespaces=15000"
	case f.UserNS < fewUserNS:
		userns.State, userns.Fix = Weak, "sysctl -w user.max_user_namespaces=15000"
	}
	return []Finding{nofile, nproc, userns}
}

func count(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}
