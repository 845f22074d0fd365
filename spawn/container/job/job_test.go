package job

import (
	"reflect"
	"strings"
	"testing"

	"sandboxd/rootfs"
)

func TestWire(t *testing.T) {
	j := Job{
		Version: Version, Rootless: true, UID: 1000, GID: 100, Host: Host{1, 2, 3, 4}, Root: rootfs.Source{Kind: rootfs.Dir, Path: "/x", Writable: true},
		Mounts: []rootfs.Mount{{Source: "/a", Target: "/b", Writable: true}}, Scratch: Scratch{5, 6}, Hostname: "box",
		HostNetwork: true, Netns: 7, Cgroup: 9, TimeNS: true, OOMScore: 8, Socket: "/s",
	}
	b, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(b); err != nil || !reflect.DeepEqual(*got, j) {
		t.Errorf("%+v, %v; want %+v", got, err, j)
	}
}

// A program of another version is told so, and the way out, whatever else differs.
func TestOtherVersion(t *testing.T) {
	for text, want := range map[string]string{
		`{"Version":3,"New":1}`: "makes containers of version 2, and version 3 was asked for; build it again",
		`{}`:                    "version 0 was asked for",
		`{"Version":2,"New":1}`: `unknown field "New"`,
		`x`:                     "job: ",
	} {
		if j, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", text, j, err, want)
		}
	}
}

// The init is never the program's user.
func TestInitIDs(t *testing.T) {
	for id, want := range map[int]int{0: 1, 1: 0, 1000: 0} {
		if uid, gid := (&Job{UID: id, GID: id}).InitIDs(); uid != want || gid != want {
			t.Errorf("program %d: init %d:%d, want %d", id, uid, gid, want)
		}
	}
}
