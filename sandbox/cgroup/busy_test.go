package cgroup

import (
	"os"
	"os/exec"
	"path"
	"testing"

	"golang.org/x/sys/unix"
)

// A caller's umask takes no right from the owner of a cgroup.
func TestMkdirDespiteUmask(t *testing.T) {
	d := t.TempDir()
	if err := os.Chmod(path.Dir(d), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o777); err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0o177))
	var err error
	asUser(t, func() { err = mkdir(unix.AT_FDCWD, d+"/x") })
	st, err2 := os.Stat(d + "/x")
	if err != nil || err2 != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v, %v", err, err2, st)
	}
}

// A child on its way out can be moved no more, and may not be listed any more,
// but is still in our delegated cgroup, which is not to be called busy.
func TestDivideWhileChildrenEnd(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	if len(h.v1) > 0 || h.v2 == nil || isRoot(h.v2.own) || notDelegated(h.v2.own, h.v2.root) != "" || notAlone(h.v2.own) != "" {
		t.Skip("does not apply: there is no v2 cgroup that is delegated to us alone")
	}
	for range 50 {
		var children []*exec.Cmd
		for range 4 {
			c := exec.Command("/bin/true")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			children = append(children, c)
		}
		tree := realTree(t, Memory)
		l, err := tree.Leaf("a", Limits{Memory: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		gone(t, l)
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		for _, c := range children {
			_ = c.Wait()
		}
	}
}
