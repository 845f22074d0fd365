package spawn_test

import (
	"os"
	"testing"

	"sandboxd/internal/hosttest"
	"sandboxd/spawn"
	"sandboxd/spawn/plan"
)

// The steps name the slot in which the image arrives, whatever else travels.
func TestExeSlot(t *testing.T) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	other := new(os.File) // only its presence counts
	for n := range 16 {
		r := &spawn.Request{Argv: []string{"x"}, Exe: exe, Landlock: true}
		if n&1 != 0 {
			r.Terminal = &spawn.Winsize{}
		}
		if n&2 != 0 {
			r.Tasks = []*os.File{other, other, other}
		}
		if n&4 != 0 {
			r.Cgroup = other
		}
		if n&8 != 0 {
			r.Netns = other
		}
		confine, err := spawn.Confine(r, true)
		if err != nil {
			hosttest.Lack(t, "Landlock: %v", err)
		}
		program, err := spawn.Program(r)
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, s := range append(confine, program...) {
			var slot uint64
			switch s.Kind {
			case plan.ExecFD:
				slot = s.Nums[2]
			case plan.LandlockFile:
				slot = s.Nums[1]
			default:
				continue
			}
			named++
			if files := spawn.Files(r); files[slot-plan.SlotRequest] != exe {
				t.Errorf("%v names slot %d, the image is not there among %d files", s.Kind, slot, len(files))
			}
		}
		if named != 2 {
			t.Errorf("%d steps name the image", named)
		}
	}
}
