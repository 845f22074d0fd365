package spawn

import (
	"errors"
	"os"
	"strconv"

	"sandboxd/namespaces"
	"sandboxd/spawn/launcher"
)

// MapUser makes o the options of an ordinary user's launcher: in a user
// namespace of its own, in which the caller is 0 and its subordinate ids, if it
// has any, follow. HostIDs count there.
func MapUser(o *launcher.Options, subUIDs, subGIDs namespaces.Range) {
	o.UIDs = []launcher.IDMap{{Inside: 0, Outside: os.Geteuid(), Count: 1}}
	o.GIDs = []launcher.IDMap{{Inside: 0, Outside: os.Getegid(), Count: 1}}
	if subUIDs.Count > 0 && subGIDs.Count > 0 {
		o.UIDs = append(o.UIDs, launcher.IDMap{Inside: 1, Outside: subUIDs.Start, Count: subUIDs.Count})
		o.GIDs = append(o.GIDs, launcher.IDMap{Inside: 1, Outside: subGIDs.Start, Count: subGIDs.Count})
		uids, gids := o.UIDs, o.GIDs
		o.MapIDs = func(pid int) error {
			return errors.Join(namespaces.NewIDMap("newuidmap", pid, flat(uids)), namespaces.NewIDMap("newgidmap", pid, flat(gids)))
		}
	}
}

func flat(maps []launcher.IDMap) []string {
	var s []string
	for _, m := range maps {
		s = append(s, strconv.Itoa(m.Inside), strconv.Itoa(m.Outside), strconv.Itoa(m.Count))
	}
	return s
}

// ProgramUID is the program's uid as this process sees it; rootless says that
// MapUser was used.
func ProgramUID(r *Request, rootless bool, subUIDs namespaces.Range) int {
	switch {
	case r.Host == nil, rootless && r.Host.UID == 0:
		return os.Geteuid()
	case rootless:
		return subUIDs.Start + r.Host.UID - 1
	}
	return r.Host.UID
}
