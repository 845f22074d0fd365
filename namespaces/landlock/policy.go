package landlock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// ErrPolicy says that a [Policy] cannot be compiled for any kernel.
var ErrPolicy = errors.New("invalid policy")

// Policy is what a sandboxed program may do. The zero value grants nothing: no
// file can be opened, but TCP and UDP are left alone.
type Policy struct {
	Dirs   Paths // directories, and all beneath them
	Files  Paths // anything else: regular files, devices, sockets
	NoInet bool  // bind(2) and connect(2) of TCP and UDP, and sending UDP, fail
}

// Paths are absolute and clean, as the program will see them. One path may be
// in several lists, and is then granted all they grant. A path that does not
// exist is an error of whoever opens it.
type Paths struct {
	// Read grants reading, and listing directories. It is enough for shared
	// libraries, which are mapped and not executed.
	Read []string
	// ReadExec grants Read and execve(2).
	ReadExec []string
	// ReadWrite grants Read, writing, truncating, and in a directory making,
	// removing and moving everything but device nodes. Not execve(2).
	ReadWrite []string
	// Device grants reading, writing and ioctl(2). Terminals belong here
	// (/dev/tty, /dev/console, the directory /dev/pts): without the right to
	// ioctl(2), whoever opens one cannot even ask for its size.
	Device []string
	// Socket grants connecting to Unix sockets that were made outside of the
	// sandbox. ABIs before 9 do not restrict that.
	Socket []string
}

// Ruleset is a compiled policy: struct landlock_ruleset_attr and its rules.
type Ruleset struct {
	HandledFS  uint64 // file rights that are denied unless a rule grants them
	HandledNet uint64 // network rights; no rule grants any
	Scoped     uint64
	Rules      []Rule
	// Missing names what the policy asks for and the ABI cannot hold, such as
	// "scope.signal". A ruleset that misses something is valid, and weaker
	// than the policy; with "fs.refer" it is stricter, since ABI 1 refuses to
	// move files between directories at all.
	Missing []string
}

// Rule grants rights beneath a path.
type Rule struct {
	Path   string
	Access uint64 // never zero, a subset of HandledFS
	File   bool   // Path is no directory: the kernel would refuse directory rights with EINVAL
}

// Compile translates the policy for an ABI, as [ABI] reports it. With ABI 0,
// which is no Landlock, all is missing and there is nothing to apply:
// the kernel refuses an empty ruleset (ENOMSG).
func (p Policy) Compile(abi int) (Ruleset, error) {
	var rs Ruleset
	var missing []string
	rs.HandledFS, missing = split(fsRights, abi)
	if len(p.Dirs.ReadWrite) == 0 {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == "fs.refer" && abi > 0 })
	}
	rs.Missing = missing
	if p.NoInet {
		rs.HandledNet, missing = split(netRights, abi)
		rs.Missing = append(rs.Missing, missing...)
	}
	rs.Scoped, missing = split(scopes, abi)
	rs.Missing = append(rs.Missing, missing...)

	for _, set := range []struct {
		paths Paths
		file  bool
	}{{p.Dirs, false}, {p.Files, true}} {
		mask := rs.HandledFS
		if set.file {
			mask &= fileMask()
		}
		for _, grant := range []struct {
			paths  []string
			access uint64
		}{
			{set.paths.Read, grantRead},
			{set.paths.ReadExec, grantReadExec},
			{set.paths.ReadWrite, grantReadWrite},
			{set.paths.Device, grantDevice},
			{set.paths.Socket, grantSocket},
		} {
			for _, name := range grant.paths {
				if err := rs.grant(Rule{name, grant.access & mask, set.file}); err != nil {
					return Ruleset{}, fmt.Errorf("landlock: compile for ABI %d: %w", abi, err)
				}
			}
		}
	}
	return rs, nil
}

// grant adds a rule or widens the one for the same path.
func (rs *Ruleset) grant(r Rule) error {
	if !path.IsAbs(r.Path) || path.Clean(r.Path) != r.Path || strings.ContainsRune(r.Path, 0) {
		return fmt.Errorf("%w: path %q is not absolute and clean", ErrPolicy, r.Path)
	}
	i := slices.IndexFunc(rs.Rules, func(have Rule) bool { return have.Path == r.Path })
	switch {
	case i < 0 && r.Access != 0:
		rs.Rules = append(rs.Rules, r)
	case i >= 0 && rs.Rules[i].File != r.File:
		return fmt.Errorf("%w: path %q is among the directories and the files", ErrPolicy, r.Path)
	case i >= 0:
		rs.Rules[i].Access |= r.Access
	}
	return nil
}

// Attr returns struct landlock_ruleset_attr as ABI 6 defined it. Older kernels
// take it too, because the fields they do not know are zero.
func (rs Ruleset) Attr() []byte {
	b := binary.NativeEndian.AppendUint64(nil, rs.HandledFS)
	b = binary.NativeEndian.AppendUint64(b, rs.HandledNet)
	return binary.NativeEndian.AppendUint64(b, rs.Scoped)
}
