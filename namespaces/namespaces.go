// Package namespaces knows what this host lets us do with namespaces and ids:
// whether we are privileged, which ids we may map, how to map them.
//
//	if !namespaces.Privileged() {
//		uids, gids, err := namespaces.SubIDs()
//	}
//
// Its sub-packages hold the two filters: seccomp and landlock. Non-goals:
// making namespaces (the init does) and mounting (package rootfs says what).
package namespaces

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Privileged reports whether this process can make namespaces without a user
// namespace and map any id: CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID (capabilities(7)).
var Privileged = sync.OnceValue(func() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return data[0].Effective&need == need
})

// Range is a range of ids on the host. Count 0: none.
type Range struct{ Start, Count int }

// SubIDs are the subordinate ids of the calling user (subuid(5), subgid(5))
// where newuidmap(1) and newgidmap(1) are installed to map them; zero ranges otherwise.
func SubIDs() (uids, gids Range, err error) {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if path, _ := exec.LookPath(tool); path == "" {
			return Range{}, Range{}, nil
		}
	}
	if uids, err = subRange("/etc/subuid"); err == nil && uids.Count > 0 {
		gids, err = subRange("/etc/subgid")
	}
	if err != nil || gids.Count == 0 {
		return Range{}, Range{}, err
	}
	return uids, gids, nil
}

func subRange(file string) (Range, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Range{}, nil
	} else if err != nil {
		return Range{}, fmt.Errorf("subordinate ids: %w", err)
	}
	passwd, _ := os.ReadFile("/etc/passwd") // without it the number is looked for
	uid := strconv.Itoa(os.Geteuid())
	return parseSubIDs(b, uid, userName(passwd, uid))
}

// parseSubIDs finds the first range of a user, by number or name.
func parseSubIDs(b []byte, uid, name string) (Range, error) {
	for line := range bytes.Lines(b) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 3 || f[0] != uid && (name == "" || f[0] != name) {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || start == 0 || start+count > 1<<32-1 {
			return Range{}, fmt.Errorf("subordinate ids: bad line %q", line)
		}
		return Range{int(start), int(count)}, nil
	}
	return Range{}, nil
}

// userName finds uid in the text of /etc/passwd; "" where it is not. Package
// os/user would link libc wherever cgo is on.
func userName(passwd []byte, uid string) string {
	for line := range bytes.Lines(passwd) {
		if f := strings.SplitN(string(line), ":", 4); len(f) == 4 && f[2] == uid {
			return f[0]
		}
	}
	return ""
}

// NewIDMap runs newuidmap(1) or newgidmap(1), whose set-user-id bit lets it map subordinate ids.
func NewIDMap(tool string, pid int, maps []string) error {
	out, err := exec.Command(tool, append([]string{strconv.Itoa(pid)}, maps...)...).CombinedOutput()
	if errors.Is(err, unix.ECHILD) { // SIGCHLD is ignored here, so nobody is told how it ended
		if have, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, strings.TrimPrefix(tool, "new")[:3]+"_map")); rerr == nil && len(have) > 0 {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", tool, err, bytes.TrimSpace(out))
	}
	return nil
}
