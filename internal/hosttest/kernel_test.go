package hosttest

import "testing"

func TestOlderThan(t *testing.T) {
	for release, want := range map[string]bool{"6.1.0-50-cloud-amd64": true, "6.11": true, "6.12.95+deb12": false, "7.0.1": false, "5.19": true} {
		if got, err := olderThan(release, 6, 12); got != want || err != nil {
			t.Errorf("%s: %v, %v", release, got, err)
		}
	}
	if _, err := olderThan("devel", 6, 12); err == nil {
		t.Error("a release without numbers was compared")
	}
}
