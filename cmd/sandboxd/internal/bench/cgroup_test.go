package bench

import "testing"

func TestHierarchyFindsUs(t *testing.T) {
	const self = "9:name=systemd:/s\n4:memory:/a/b\n3:cpu,cpuacct:/c:d\n0::/u\n"
	for _, c := range []struct {
		h    hierarchy
		want string
	}{
		{hierarchy{controllers: []string{"rw", "memory"}}, "/a/b"},
		{hierarchy{controllers: []string{"rw", "cpu", "cpuacct"}}, "/c:d"},
		{hierarchy{controllers: []string{"rw", "name=systemd"}}, "/s"},
		{hierarchy{unified: true}, "/u"},
	} {
		if got, ok := c.h.find(self); !ok || got != c.want {
			t.Errorf("%+v: %q, want %q", c.h, got, c.want)
		}
	}
	if got, ok := (hierarchy{controllers: []string{"rw", "pids"}}).find(self); ok {
		t.Errorf("a hierarchy that we are not in gave %q", got)
	}
}
