// Package rootfs says what a sandbox's file system consists of: where the root
// comes from, what the skeleton around it is, and what of the host may show.
//
//	entries := rootfs.Skeleton(rootfs.Source{Kind: rootfs.Host}, rootfs.Identity{UID: 1000, GID: 1000, Hostname: "sandbox"})
//
// gives the directories, small files, device nodes and read-only binds of the
// default root as plain data. Package spawn/native turns them into kernel steps.
//
// Non-goals: mounting (the init does), and images from registries.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is where a root comes from. The zero value is Host.
type Kind uint8

const (
	Host    Kind = iota // the host's system directories, read-only, nothing of its users
	Scratch             // empty but for the skeleton
	Dir                 // a directory of the caller's
	Tar                 // an archive, unpacked into memory
)

// String is the kind as reports show it.
func (k Kind) String() string { return [...]string{"host", "scratch", "dir", "tar"}[k&3] }

// Source is a root as the user named it.
type Source struct {
	Kind     Kind
	Path     string // of Dir and Tar, absolute
	Writable bool   // a layer on top takes changes; gone with the actor
}

// Parse reads a --root value: "host" (or ""), "scratch", a directory or a tar archive.
func Parse(s string) (Source, error) {
	switch s {
	case "", "host":
		return Source{Kind: Host}, nil
	case "scratch":
		return Source{Kind: Scratch}, nil
	}
	abs, err := absolute(s)
	if err != nil {
		return Source{}, err
	}
	st, err := os.Stat(abs)
	switch {
	case err != nil:
		return Source{}, fmt.Errorf("root %q: %w (want host, scratch, a directory or a tar archive)", s, err)
	case st.IsDir():
		return Source{Kind: Dir, Path: abs}, nil
	case st.Mode().IsRegular():
		return Source{Kind: Tar, Path: abs}, nil
	}
	return Source{}, fmt.Errorf("root %q: is neither a directory nor a regular file (want host, scratch, a directory or a tar archive)", s)
}

// Mount is a piece of the host that the user lets in.
type Mount struct {
	Source   string // absolute, on the host
	Target   string // absolute, in the sandbox
	Writable bool   // the zero value is read-only
}

// ErrMount is wrapped by every refusal of a mount.
var ErrMount = errors.New("mount refused")

// reserved are places that the sandbox itself makes: a mount in or over the first
// ones would take its walls away, and the last ones would cover a mount.
var reserved = []string{"/proc", "/dev", "/run/sandboxd", "/sys", "/tmp", Home}

// ParseMount reads SOURCE:TARGET[:ro|rw], read-only unless rw is said.
func ParseMount(s string) (Mount, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return Mount{}, fmt.Errorf("%w: %q: want SOURCE:TARGET[:ro|rw]", ErrMount, s)
	}
	m := Mount{Target: path.Clean(parts[1])}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
		case "rw":
			m.Writable = true
		default:
			return Mount{}, fmt.Errorf("%w: %q: mode %q is neither ro nor rw", ErrMount, s, parts[2])
		}
	}
	var err error
	if m.Source, err = absolute(parts[0]); err != nil {
		return Mount{}, fmt.Errorf("%w: %q: %w", ErrMount, s, err)
	}
	return m, m.Check()
}

// Check refuses a mount that cannot be or must not be.
func (m Mount) Check() error {
	for _, p := range [][2]string{{"source", m.Source}, {"target", m.Target}} {
		if !path.IsAbs(p[1]) || path.Clean(p[1]) != p[1] || strings.ContainsRune(p[1], 0) {
			return fmt.Errorf("%w: %s %q is not an absolute path without dots", ErrMount, p[0], p[1])
		}
	}
	if m.Target == "/" {
		return fmt.Errorf("%w: target / is the root itself; use --root %s", ErrMount, m.Source)
	}
	for _, r := range reserved {
		if strings.HasPrefix(m.Target+"/", r+"/") {
			return fmt.Errorf("%w: target %q lies in %s, which the sandbox makes itself; name another target, such as /data", ErrMount, m.Target, r)
		}
		if strings.HasPrefix(r, m.Target+"/") {
			return fmt.Errorf("%w: target %q would cover %s, which the sandbox makes itself; name another target, such as /data", ErrMount, m.Target, r)
		}
	}
	if err := showable(m.Source); err != nil {
		return fmt.Errorf("%w: source %q %w", ErrMount, m.Source, err)
	}
	return nil
}

// Check refuses a root that must not be.
func (s Source) Check() error {
	if s.Kind != Dir {
		return nil
	}
	if err := showable(s.Path); err != nil {
		return fmt.Errorf("root %q %w; name another directory, or host for the system's own", s.Path, err)
	}
	return nil
}

// showable refuses a tree of the host's that no sandbox may have. The error follows its name.
func showable(p string) error {
	real, err := filepath.EvalSymlinks(p)
	var fs unix.Statfs_t
	if err == nil {
		err = unix.Statfs(real, &fs)
	}
	switch {
	case err != nil:
		return fmt.Errorf("cannot be used: %w", err)
	case fs.Type == unix.PROC_SUPER_MAGIC:
		return errors.New("would show the host's processes; the sandbox has a /proc of its own")
	case strings.HasPrefix(real+"/", "/sys/"):
		return errors.New("lies in /sys, where the sandbox is built")
	}
	return nil
}

func absolute(p string) (string, error) {
	if path.IsAbs(p) {
		return path.Clean(p), nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", p, err)
	}
	return path.Join(wd, p), nil
}

// Separable says whether an ordinary user may let the tree at p in, who cannot
// leave out what is mounted below it: with that, a tree is no layer of an
// overlay, and with a /proc it would show the host's processes.
func Separable(p string, layer bool) error {
	real, err := filepath.EvalSymlinks(p)
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	top := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(strings.TrimSuffix(real, "/")) + "/"
	for line := range strings.Lines(string(mounts)) {
		where, what, _ := strings.Cut(line, " - ")
		if f := strings.Fields(where); len(f) > 4 && f[4] != "/" && strings.HasPrefix(f[4], top) && (layer || strings.HasPrefix(what, "proc ")) {
			return fmt.Errorf("%s is mounted below it, which an ordinary user cannot leave out; name a directory without mounts below it, or run as root", f[4])
		}
	}
	return nil
}
