package native

import (
	"os"

	"sandboxd/spawn"
)

// programUID is the program's uid as this process sees it. An ordinary user's
// HostIDs count in the launcher's user namespace, see maps.
func (b *Backend) programUID(r *spawn.Request) int {
	switch {
	case r.Host == nil, b.rootless && r.Host.UID == 0:
		return os.Geteuid()
	case b.rootless:
		return b.options.SubUIDs.Start + r.Host.UID - 1
	}
	return r.Host.UID
}
