// Package job is what the container backend asks of its helper program
// (cmd/sandboxd-container), as plain data: one Job is one container.
//
//	text, err := job.Job{Version: job.Version, Hostname: "sandbox", …}.Encode()
//
// Non-goals: how a container is made (the helper), and what a program in it may
// do (the plan that the minimal init executes there).
package job

import (
	"bytes"
	"encoding/json"
	"fmt"

	"sandboxd/rootfs"
)

// Version is that of Job and of what the helper makes of it: both programs must have the same.
const Version = 2

// Program is the name of the helper's file.
const Program = "sandboxd-container"

// NoCgroup is the name of the cgroup that libcontainer would make if it could; there is never one.
const NoCgroup = "sandboxd-never-made"

// Job describes one container. Its init is the minimal init, on behalf of which
// the rest is done: see [sandboxd/spawn/plan].
type Job struct {
	Version  int
	Rootless bool // the helper is an ordinary user's, in a user namespace
	UID, GID int  // of the program, inside
	Host     Host

	Root        rootfs.Source
	Mounts      []rootfs.Mount
	Scratch     Scratch
	Hostname    string
	HostNetwork bool
	Netns       int // which of the request's descriptors is its network namespace; -1: none
	Cgroup      int // which is its cgroup v2 directory; -1: none
	TimeNS      bool
	OOMScore    int
	Socket      string // where the actor's socket is, inside
}

// Host are ids as the helper sees them: the host's, or where it is Rootless, those of its user namespace.
type Host struct{ InitUID, InitGID, UID, GID int }

// Scratch bounds everything writable together. Zero Bytes: no writable places.
type Scratch struct{ Bytes, Inodes int64 }

// InitIDs are those of the init, inside: 0 unless the program is.
func (j *Job) InitIDs() (uid, gid int) {
	if j.UID == 0 {
		uid = 1
	}
	if j.GID == 0 {
		gid = 1
	}
	return uid, gid
}

// Encode gives the wire form.
func (j Job) Encode() ([]byte, error) { return json.Marshal(j) }

// Decode reads the wire form, of this version only.
func Decode(b []byte) (*Job, error) {
	var v struct{ Version int }
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("job: %w", err)
	}
	if v.Version != Version {
		return nil, fmt.Errorf("%s makes containers of version %d, and version %d was asked for; build it again beside the program that uses it (make build)", Program, Version, v.Version)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	j := new(Job)
	if err := d.Decode(j); err != nil {
		return nil, fmt.Errorf("job: %w", err)
	}
	return j, nil
}
