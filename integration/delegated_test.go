package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// delegation is the v2 cgroup that an ordinary user's tests share out, or "".
// Where there is one, every sandboxd begins alone in a cgroup of its own below
// it, as `systemd-run --user --scope -p Delegate=yes` would have it.
var delegation string

const controllers = "cpu io memory pids"

// delegated says whether the caller can have cgroups with controllers.
func (c *caller) delegated() bool {
	return c.root() || c.uid == os.Geteuid() && delegation != "" // another's is not ours to give
}

// shareOut makes the delegation of what cgroup we were given, should it be ours
// alone: then we move aside. SANDBOXD_DELEGATED=1 says that it must be.
func shareOut() (undo func(), err error) {
	undo = func() {}
	if os.Geteuid() != 0 {
		undo, err = divide()
	}
	if os.Getenv("SANDBOXD_DELEGATED") != "1" {
		err = nil
	}
	return undo, err
}

func divide() (undo func(), err error) {
	undo = func() {}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return undo, err
	}
	path, unified := strings.CutPrefix(strings.TrimSpace(string(b)), "0::") // v1 has more lines before
	if !unified {
		return undo, errors.New("no pure cgroup v2 here")
	}
	own := "/sys/fs/cgroup" + path
	aside := filepath.Join(own, "tests")
	if err := os.Mkdir(aside, 0o755); err != nil {
		return undo, err
	}
	enable := func(sign string) error {
		return os.WriteFile(own+"/cgroup.subtree_control", []byte(sign+strings.ReplaceAll(controllers, " ", " "+sign)), 0)
	}
	move := func(to string) error { return os.WriteFile(to+"/cgroup.procs", []byte(strconv.Itoa(os.Getpid())), 0) }
	undo = func() { _ = errors.Join(enable("-"), move(own), os.Remove(aside)) }
	if err = errors.Join(move(aside), enable("+")); err != nil {
		undo()
		return func() {}, err
	}
	delegation = own
	return undo, nil
}

// scope gives cmd a cgroup of its own to begin in.
func (c *caller) scope(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if c.root() || !c.delegated() {
		return
	}
	d, err := os.MkdirTemp(delegation, "run-")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(f.Fd())
	c.scopes = append(c.scopes, f)
}

// dropScopes removes the cgroups; the leak check came before.
func (c *caller) dropScopes(t *testing.T) {
	t.Helper()
	for _, f := range c.scopes {
		f.Close()
		if err := unix.Rmdir(f.Name()); err != nil {
			t.Errorf("left behind: cgroup %s: %v", f.Name(), err)
		}
	}
}
