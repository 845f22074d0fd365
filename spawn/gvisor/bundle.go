package gvisor

import (
	"encoding/json"
	"fmt"

	"sandboxd/spawn"
)

// platform is how gVisor gets at its program's system calls: systrap, by a
// seccomp filter and signals, works wherever processes do. The others need a
// /dev/kvm that works (many that open do not) or are slower.
const platform = "systrap"

// argv is what runs as the program of the outer actor.
func argv(r *spawn.Request, keep int) []string {
	network := "none" // a loopback of its own
	if r.HostNetwork {
		network = "host"
	}
	a := []string{
		"runsc",
		"--root=" + spawn.GuestDir + "/state",
		"--ignore-cgroups", // the actor's is around all of it
		"--platform=" + platform,
		"--network=" + network,
		"--host-uds=open", // for the actor's socket
		"--overlay2=none", // what is written is counted by the writable layer's size
		"--file-access=shared",
		"run",
		"--bundle=" + spawn.GuestDir,
		fmt.Sprintf("--exec-fd=%d", spawn.GuestFD),
	}
	for i := range keep {
		a = append(a, fmt.Sprintf("--pass-fd=%d:%d", spawn.GuestFD+i, firstInGuest+i))
	}
	return append(a, "actor")
}

// The part of an OCI runtime configuration that we use.
type (
	config struct {
		Version  string  `json:"ociVersion"`
		Process  program `json:"process"`
		Root     root    `json:"root"`
		Hostname string  `json:"hostname"`
		Mounts   []mount `json:"mounts"`
		Linux    linux   `json:"linux"`
	}
	program struct {
		User            user     `json:"user"`
		Args            []string `json:"args"`
		Env             []string `json:"env"`
		Cwd             string   `json:"cwd"`
		NoNewPrivileges bool     `json:"noNewPrivileges"`
	}
	user struct {
		UID uint32 `json:"uid"`
		GID uint32 `json:"gid"`
	}
	root struct {
		Path     string `json:"path"`
		Readonly bool   `json:"readonly"`
	}
	mount struct {
		Destination string   `json:"destination"`
		Type        string   `json:"type"`
		Source      string   `json:"source"`
		Options     []string `json:"options,omitempty"`
	}
	linux struct {
		Namespaces  []namespace `json:"namespaces"`
		UIDMappings []mapping   `json:"uidMappings"`
		GIDMappings []mapping   `json:"gidMappings"`
	}
	namespace struct {
		Type string `json:"type"`
	}
	mapping struct {
		ContainerID uint32 `json:"containerID"`
		HostID      uint32 `json:"hostID"`
		Size        uint32 `json:"size"`
	}
)

// bundle is config.json. Its root is the outer actor's own, and so are its mounts.
func bundle(r *spawn.Request) (string, error) {
	uid, gid := uint32(r.UID), uint32(r.GID)
	c := config{
		Version:  "1.2.0",
		Process:  program{User: user{uid, gid}, Args: []string{"sandboxd-init", "cs"}, Env: []string{}, Cwd: "/", NoNewPrivileges: true},
		Root:     root{Path: "/", Readonly: !r.Root.Writable},
		Hostname: r.Hostname,
		Linux:    linux{UIDMappings: []mapping{{uid, uid, 1}}, GIDMappings: []mapping{{gid, gid, 1}}},
	}
	for _, ns := range []string{"pid", "ipc", "uts", "mount", "network", "user"} {
		c.Linux.Namespaces = append(c.Linux.Namespaces, namespace{ns})
	}
	bind := func(path string, write bool) {
		options := []string{"rbind", "ro", "nosuid", "nodev"}
		if write {
			options[1] = "rw"
		}
		c.Mounts = append(c.Mounts, mount{path, "bind", path, options})
	}
	c.Mounts = []mount{{"/proc", "proc", "proc", nil}, {"/dev", "tmpfs", "tmpfs", nil}, {"/sys", "sysfs", "sysfs", []string{"ro"}}}
	if r.Scratch.Bytes > 0 {
		for _, w := range writable {
			bind(w, true)
		}
	}
	for _, m := range r.Mounts {
		bind(m.Target, m.Writable)
	}
	// What runsc keeps for itself is none of the program's business.
	c.Mounts = append(c.Mounts, mount{spawn.GuestDir, "tmpfs", "tmpfs", []string{"ro", "nosuid", "nodev", "noexec", "size=4k"}})
	b, err := json.Marshal(c)
	return string(b), err
}
