package cgroup

import (
	"errors"
	"os"
	"testing"
)

// Two trees of one process share the cgroup that it left for them. The first to
// close takes nothing from the other; the last puts all right.
func TestShareDelegated(t *testing.T) {
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	detect := func() *Host {
		h, err := Detect()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := detect()
	if len(h.v1) > 0 || h.v2 == nil || isRoot(h.v2.own) || notDelegated(h.v2.own, h.v2.root) != "" || notAlone(h.v2.own) != "" {
		t.Skip("does not apply: there is no v2 cgroup that is delegated to us alone")
	}
	home := nodeAt(h.v2.own, true)
	for name, late := range map[string]bool{"second detects before": false, "second detects after": true} {
		t.Run(name, func(t *testing.T) {
			leaf := func(h *Host, lease string) (*Tree, *Leaf) {
				tree, err := h.Solo(lease)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := tree.Close(); err != nil {
						t.Error(err)
					}
					nothingLeft(t, h, lease)
				})
				return tree, mustLeaf(t, tree, "one", Limits{Memory: 64 << 20})
			}
			h1, h2 := detect(), detect()
			first, l1 := leaf(h1, "test-share-1")
			if late {
				h2 = detect()
			}
			second, l2 := leaf(h2, "test-share-2")
			gone(t, l1)
			if err := first.Close(); err != nil {
				t.Error(err)
			}
			if got, err := l2.Limits(); err != nil || got.Memory != 64<<20 {
				t.Errorf("after the first tree is closed the second has %+v, %v", got, err)
			}
			gone(t, l2)
			if err := second.Close(); err != nil {
				t.Error(err)
			}
			after, err := os.ReadFile("/proc/self/cgroup")
			on, err2 := home.read("cgroup.subtree_control", maxFile)
			below, err3 := home.children()
			if errors.Join(err, err2, err3) != nil || string(after) != string(before) || parseV2(on) != 0 || len(below) > 0 {
				t.Errorf("afterwards we are in %s, which hands down %q to %v (%v, %v, %v)", after, on, below, err, err2, err3)
			}
		})
	}
}
